package main

import (
	"fmt"
	"slices"
	"strings"

	"weir/bench/simulate"
	"weir/pipeline"
)

// reachedList compares what alerts name as reached with what an attacker got.
type reachedList struct {
	truth     int64 // what it got
	counted   int64 // what the alerts count; -1 not known
	named     int   // of what it got
	missing   int   // of what the label lists
	extra     int   // named, and nothing that it got
	truncated bool  // an alert says that its list is not all
}

// equal reports whether the alerts say what the label says: every entry, or, where
// there are more than an alert lists, nothing else and the right total.
func (r *reachedList) equal() bool {
	return r.extra == 0 && r.counted == r.truth && (r.missing == 0 || r.truncated && r.named > 0)
}

func (r *reachedList) String() string {
	return fmt.Sprintf("%d of %d named, %d counted, %d more, truncated %t", r.named, r.truth, r.counted, r.extra, r.truncated)
}

// compareReached compares the last revisions of the alerts of episode i's family
// that name its attacker with the truth. A campaign's numbers hold its members'.
func (t *evalTrial) compareReached(keys *pipeline.PrivacyKeys, i int) (objects, accounts reachedList) {
	ep := &t.labels.Episodes[i]
	var truth simulate.Reached
	for j := range t.truth {
		if t.truth[j].Episode == ep.ID {
			truth = *t.truth[j].Reached
		}
	}
	saidObjects, saidAccounts := map[string]bool{}, map[string]bool{}
	objects.counted, accounts.counted = -1, -1
	campaign := false
	for _, in := range groupRevisions(t.alerts) {
		a := in.latest()
		if a.Severity == "info" || labelFamily(ep.Type) != labelFamily(a.Detector) || !windowsOverlap(a, ep) || !slices.Contains(episodesOf(t.labels, alertOwners(t.labels, a)), int32(i)) {
			continue
		}
		for _, o := range a.Affected.Objects {
			saidObjects[o] = true
		}
		for _, c := range a.Affected.Accounts {
			if c.Outcome == "success" {
				saidAccounts[openText(c.Name, keys)] = true
			}
		}
		objects.truncated = objects.truncated || a.Affected.Truncated
		accounts.truncated = objects.truncated
		if campaign {
			continue
		}
		if campaign = a.Level == "campaign"; campaign {
			objects.counted, accounts.counted = -1, -1
		}
		objects.counted = max(objects.counted, a.Outcome.Objects) // the account's and its address's are the same
		if n := a.Outcome.Succeeded; n != nil {
			accounts.counted = max(accounts.counted, 0) + *n
		}
	}
	objects.compare(truth.Objects, truth.ObjectsTotal, saidObjects)
	accounts.compare(truth.Accounts, truth.AccountsTotal, saidAccounts)
	return objects, accounts
}

func (r *reachedList) compare(truth []string, total int64, said map[string]bool) {
	r.truth = total
	for _, v := range truth {
		if path, query, ok := strings.Cut(v, "?"); ok && !said[v] && said[path] {
			v = strings.TrimSuffix(v, "?"+query) // an item is its path
		}
		if said[v] {
			r.named++
			delete(said, v)
		} else {
			r.missing++
		}
	}
	r.extra = len(said)
}
