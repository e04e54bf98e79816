package detectors

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"weir/pipeline"
)

// finding is the whole case as it stands.
func (l *ledger) finding(k *knot, at pipeline.Time) pipeline.Finding {
	d := l.Dossier
	c := d.Cases[0]
	d.Who, d.Owner = l.Who, l.Owner
	l.Told = l.Foreign
	low, high := 0, 0
	objects, granted, truncated := l.Reached.others()
	f := pipeline.Finding{
		Time: at, Detector: "enum.object", Level: level(l.Who.Kind), Who: l.Who, Wide: true,
		Onset: l.Onset, First: min(c.First, l.Onset), Last: max(c.Last, l.Onset), Endpoint: c.Endpoint, Score: l.score(),
		Outcome:   pipeline.Outcome{Attempted: granted + int64(l.Refused) + int64(l.Absent), Objects: granted, Basis: "status"},
		Addresses: slices.Clone(d.Addresses), AddressesTotal: max(len(d.Addresses), d.Distinct.count()),
		Objects: objects, Truncated: truncated,
		Agents: slices.Clone(d.Agents), JA4: slices.Clone(d.JA4), People: [2]int{low, high},
		FirstSeen: min(c.First, l.Onset), Exemplars: slices.Clone(c.Exemplars), Sampled: 1, Late: c.Late, Backfill: c.Backfill, Labels: maps.Clone(d.Labels),
		Attack: []string{"T1213", "T1119"}, OWASP: []string{"API1:2023"}, OAT: []string{"OAT-011"},
	}
	if len(d.Addresses) < maxAddresses {
		f.AddressesTotal = len(d.Addresses)
	}
	for _, n := range l.Rate {
		f.Rate5m += int64(n)
	}
	if !c.Unsized {
		bytes := c.Bytes
		f.Outcome.Bytes = &bytes
	}
	f.Outcome.Requests = max(c.Requests, f.Outcome.Attempted)
	blocked := int64(l.Refused)
	f.Outcome.Succeeded = &granted
	if blocked > 0 {
		f.Outcome.Blocked, f.Outcome.BlockedBy = &blocked, "403"
	}
	base := k.b.describe(0)
	base.Kind = l.Basis
	if e := k.b.endpoint(c.Template); l.Basis == "cohort" && e != nil {
		base = k.b.baseline(e.Share)
	}
	if l.Basis == "own" {
		base.N = int64(l.OwnN)
	}
	share, near := l.parts()
	f.Signals = []pipeline.FindingSignal{{
		Name: "foreign_object", Observed: float64(l.Foreign), Expected: float64(l.Contacts) * float64(l.Share) / 65536, Count: int64(l.Foreign), Nats: share, Baseline: base,
	}}
	if e := k.b.endpoint(c.Template); near > 0 {
		next := pipeline.FindingSignal{Name: "near_id", Observed: float64(l.Near), Count: int64(l.Near), Nats: near}
		if e != nil {
			next.Expected, next.Baseline = float64(l.Numbers)*e.Near.Mean(), k.b.baseline(e.Near)
		}
		f.Signals = append(f.Signals, next)
	}
	f.Facts.Succeeded, f.Facts.CanSucceed = l.Granted > 0 && !l.Known, true
	f.Facts.Notice = l.Known
	if c.ID == "" {
		c.ID = findingID("enum owned", l.Owner, l.Onset)
	}
	f.ID = c.ID
	l.describe(&f, c)
	return f
}

func (l *ledger) describe(f *pipeline.Finding, c *caseFile) {
	what := thingsOf(f.Endpoint.Template)
	word := pick(l.Who.Kind == pipeline.PrincipalKey, "client", "account")
	others := plural(int64(len(l.Owners)), "other "+word, "other "+word+"s")
	if len(l.Owners) >= maxOwners {
		others = "over " + others
	}
	took := f.Last.Sub(f.Onset)
	f.Title = fmt.Sprintf("Objects of others read on %s %s by %s", f.Endpoint.Method, f.Endpoint.Template, f.Who.Value)
	if l.Granted == 0 {
		f.Title = fmt.Sprintf("Objects of others asked for on %s %s by %s", f.Endpoint.Method, f.Endpoint.Template, f.Who.Value)
	}
	did := fmt.Sprintf("Read %d %s owned by %s in %s", l.Granted, what, others, span(took))
	switch {
	case l.Granted == 0:
		did = fmt.Sprintf("Asked for %d %s owned by %s in %s and got none", l.Refused, what, others, span(took))
	case l.Refused > 0:
		did += fmt.Sprintf("; %d more were refused", l.Refused)
	}
	if more := f.Outcome.Objects - int64(l.Granted); more > 0 && l.Granted > 0 {
		did += fmt.Sprintf(", and %d whose owner has not been seen yet", more)
	}
	rare := fmt.Sprintf("here 1 in %s reads is of another's", thousands(int64(65536/max(1, l.Share))))
	if l.Basis == "own" {
		rare = fmt.Sprintf("before, %d of its own %d reads were of another's", l.OwnK, l.OwnN)
	}
	f.Reason = fmt.Sprintf("%s (%s).", did, rare)
	switch {
	case l.Known:
		f.Reason += " The configuration names it as a known client."
	case l.Reader:
		f.Reason += " It read what others own before, too: support or a partner does, and a patient thief."
	case l.Program:
		f.Reason += " Keys are for programs that read what many own here, as the edition knows them."
	case l.Capped:
		f.Reason += " Too little is known of who shares what here for more than a look."
	}
	if l.Granted > 0 {
		f.Next = append(f.Next, fmt.Sprintf("Fix the missing ownership check on %s %s", f.Endpoint.Method, f.Endpoint.Template),
			fmt.Sprintf("Treat the %d %s as disclosed", f.Outcome.Objects, what))
	}
	f.Next = append(f.Next, blockAdvice(f))
	f.BenignIf = []string{"support or an administrator at work, or a partner's sync: name it in identity.known_clients", "people who share an account's objects on purpose"}
	f.WouldNotFireIf = fmt.Sprintf("fewer than %d of the %s had belonged to others", max(3, min(int(l.Foreign), 5)), what)
}

// thingsOf names what a template serves: "orders" of /api/orders/{uuid}.
func thingsOf(template string) string {
	if path, _, ok := strings.Cut(template, "?"); ok {
		template = path + "/{id}"
	}
	i := strings.LastIndexByte(template, '{')
	if i <= 1 {
		return "objects"
	}
	head := strings.TrimSuffix(template[:i], "/")
	word := head[strings.LastIndexByte(head, '/')+1:]
	for _, c := range []byte(word) {
		if (c < 'a' || c > 'z') && c != '-' && c != '_' {
			return "objects"
		}
	}
	if len(word) < 3 || len(word) > 24 || !strings.HasSuffix(word, "s") {
		return "objects"
	}
	return word
}

func thousands(n int64) string {
	if n < 1000 {
		return fmt.Sprint(n)
	}
	return fmt.Sprintf("%s,%03d", thousands(n/1000), n%1000)
}
