package console

import (
	"crypto/sha256"
	"fmt"
	"maps"
	"net/netip"
	"net/url"
	"slices"
	"strings"
	"unicode"
)

// What a search for alerts may hold.
const (
	maxSearch = 200 // bytes of free text
	maxTerms  = 16  // tags, labels, words
	maxTerm   = 256 // bytes of one value
)

// The orders of a list.
const (
	sortNewest   = "newest"
	sortSeverity = "severity"
	sortScore    = "score"
)

// terms returns the values of name, separated by commas or given several times.
func (q *query) terms(name, want string) (list []string) {
	for _, v := range q.all(name, want) {
		for word := range strings.SplitSeq(v, ",") {
			if word == "" || len(word) > maxTerm || len(list) == maxTerms {
				q.bad(name, word, fmt.Sprintf("%s, at most %d of them", want, maxTerms))
				return list
			}
			list = append(list, word)
		}
	}
	return list
}

// term is one, of at most maxTerm bytes.
func (q *query) term(name, want string) string {
	v := q.one(name, want)
	if len(v) > maxTerm {
		q.bad(name, v, fmt.Sprintf("%s of at most %d bytes", want, maxTerm))
		return ""
	}
	return v
}

// flag returns true, false or nil.
func (q *query) flag(name string) *bool {
	if !q.values.Has(name) {
		q.known = append(q.known, name)
		return nil
	}
	return new(q.truth(name))
}

// deskFilter reads what selects alerts, in lists, groups and bulk changes.
func (q *query) deskFilter() (f AlertQuery) {
	f.Since, f.Until = q.window()
	f.Severity = q.words("severity", "info", "low", "medium", "high", "critical")
	f.Detector = q.terms("detector", "a detector's name, like auth.bruteforce")
	for _, name := range f.Detector {
		if !isDetector(name) {
			q.bad("detector", name, "a detector's name, like auth.bruteforce")
		}
	}
	f.Status = q.words("status", "open", "resolved")
	f.Tier = q.words("tier", "page", "review", "context")
	f.Triage = q.words("triage", triageStatuses()...)
	f.Assignee = q.term("assignee", "a user's name, or - for nobody")
	f.Verdict = q.words("verdict", Verdicts()...)
	f.Suppressed, f.Backfill = q.flag("suppressed"), q.flag("backfill")
	f.Tags = q.terms("tag", "tags")
	for _, pair := range q.terms("label", "name=value") {
		name, value, ok := strings.Cut(pair, "=")
		if !ok || name == "" {
			q.bad("label", pair, "name=value")
			continue
		}
		if f.Labels == nil {
			f.Labels = map[string]string{}
		}
		f.Labels[name] = value
	}
	f.Principal = q.principal("principal")
	if v := q.term("address", "an IP address"); v != "" {
		a, err := netip.ParseAddr(v)
		if err != nil {
			q.bad("address", v, "an IP address")
		}
		f.Address = a.Unmap().String()
	}
	f.Endpoint = q.term("endpoint", "METHOD TEMPLATE or METHOD HOST TEMPLATE")
	if n := strings.Count(f.Endpoint, " "); f.Endpoint != "" && n == 0 {
		q.bad("endpoint", f.Endpoint, "METHOD TEMPLATE or METHOD HOST TEMPLATE")
	}
	f.Campaign = q.term("campaign", "the id of a campaign")
	if v := q.one("q", "words"); v != "" {
		if f.Words = wordsOf(v); len(v) > maxSearch || len(f.Words) > maxTerms || len(f.Words) == 0 {
			q.bad("q", v, fmt.Sprintf("words with letters or digits, at most %d in %d bytes", maxTerms, maxSearch))
			f.Words = nil
		}
	}
	return f
}

// wordsOf are the words of a search that can be found: those without a letter or
// digit cannot.
func wordsOf(s string) []string {
	return slices.DeleteFunc(strings.Fields(s), func(w string) bool {
		return !strings.ContainsFunc(w, func(r rune) bool { return unicode.IsLetter(r) || unicode.IsDigit(r) })
	})
}

// deskQuery reads a list's parameters; rows tells how alerts are shown.
func (c *console) deskQuery(q *query) (f AlertQuery, rows bool, err error) {
	f = q.deskFilter()
	f.Limit = int(q.number("limit", alertsLimit, 1, maxAlerts))
	f.BeforeSeq = q.number("before", 0, 1, maxSeq)
	f.AfterSeq = q.number("after", 0, 1, maxSeq)
	f.Sort = q.one("sort", "newest, severity or score")
	if f.Sort == "" {
		f.Sort = sortNewest
	}
	if f.Sort != sortNewest && f.Sort != sortSeverity && f.Sort != sortScore {
		q.bad("sort", f.Sort, "newest, severity or score")
	}
	view := q.one("view", "row or full")
	if rows = view == "row"; view != "" && !rows && view != "full" {
		q.bad("view", view, "row or full")
	}
	f.Full = !rows
	cursor := q.one("cursor", "what a page gave as next")
	count := q.flag("count")
	f.Count = rows && cursor == ""
	if count != nil {
		f.Count = *count
	}
	if cursor != "" {
		p, err := c.seals.open(listHash(q.values), cursor)
		if err != nil {
			q.errs = append(q.errs, fmt.Errorf("cursor: not one of this list; leave it out to begin anew"))
		}
		f.After = &AlertPlace{Rank: p.known, Seq: p.seq}
	}
	return f, rows, q.err()
}

// listHash tells cursors of one search and order from others.
func listHash(values url.Values) [4]byte {
	h := sha256.New()
	_, _ = h.Write([]byte("alerts list"))
	for _, name := range slices.Sorted(maps.Keys(values)) {
		if !slices.Contains([]string{"cursor", "limit", "count", "view"}, name) {
			fmt.Fprintf(h, "\x00%s=%q", name, values[name])
		}
	}
	return [4]byte(h.Sum(nil)[:4])
}
