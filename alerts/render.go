package alerts

import (
	"cmp"
	"fmt"
	"maps"

	"weir/pipeline"
)

// backfillKey marks, in an alert's envelope, a revision that history caused:
// it is kept and shown, and no sink gets it.
const backfillKey = "backfill"

func markBackfill(a *pipeline.Alert, backfill bool) {
	if backfill {
		a.Envelope.Triage[backfillKey] = true
	}
}

// Backfill reports whether a was caused by history alone.
func Backfill(a *pipeline.Alert) bool {
	v, _ := a.Envelope.Triage[backfillKey].(bool)
	return v
}

// alert renders inc as it stands. What it returns shares no memory with the
// book.
func (b *Book) alert(inc *incident, open bool) pipeline.Alert {
	f := &inc.Finding
	ongoing := open && inc.active(b.now)
	words := severities()
	a := pipeline.Alert{
		Schema: pipeline.AlertSchema, ID: inc.ID, Revision: inc.Revision, Status: "resolved", Change: inc.Said.Change,
		Detector: f.Detector, Severity: words[inc.Severity], Tier: tierName(inc.Tier), Title: f.Title, Reason: f.Reason,
		Next: copied(f.Next), BenignIf: copied(f.BenignIf), WouldNotFireIf: f.WouldNotFireIf,
		Level: f.Level, Principal: inc.Place.Who, Addresses: copied(f.Addresses), AddressesTotal: f.AddressesTotal,
		Members: copied(f.Members), MembersTotal: f.MembersTotal, Predicate: f.Predicate, Estimate: ptr(f.Estimate),
		Window:  pipeline.AlertWindow{Onset: inc.Onset, First: inc.First, Last: inc.Last, DetectedAt: inc.Opened},
		Ongoing: ongoing,
		Score:   scoreOf(f), Signals: signals(f.Signals, f.Score),
		Outcome: outcome(f.Outcome),
		Affected: pipeline.AlertAffected{
			Accounts: copied(f.Accounts), Objects: copied(f.Objects), Truncated: f.Truncated,
		},
		Context: pipeline.AlertContext{
			ASN: f.ASN, Country: f.Country, Network: f.Network,
			Agents: copied(f.Agents), JA4: copied(f.JA4), FirstSeen: f.FirstSeen, PriorAlerts: inc.Prior,
		},
		Exemplars: copied(f.Exemplars), Endpoint: f.Endpoint,
		Quality:  pipeline.AlertQuality{Identity: identity(inc.Place.Who.Kind), Sampled: round6(f.Sampled), Late: f.Late},
		Labels:   labels(f.Labels),
		Attack:   copied(f.Attack),
		OWASP:    copied(f.OWASP),
		OAT:      copied(f.OAT),
		Campaign: cmp.Or(inc.Parent, b.campaign(inc.Place)),
		Versions: b.versions,
		Envelope: pipeline.AlertEnvelope{Triage: map[string]any{}, Links: map[string]any{}, Silence: inc.silence()},
	}
	if len(inc.Owned) > 0 && !f.Wide {
		a.Affected.Objects, a.Affected.Truncated = copied(inc.Owned), inc.OwnedMore || f.Truncated && len(f.Accounts) > 0
		a.Outcome.Objects, a.Outcome.Succeeded = inc.OwnedAll, ptr(&inc.OwnedAll)
	}
	if open {
		a.Status = "open"
	}
	if ongoing {
		a.Rate5m = f.Rate5m
	}
	if a.Level == "" {
		a.Level = "client"
	}
	if f.People != [2]int{} {
		people := f.People
		a.Context.People = &people
	}
	if f.Edition != "" {
		a.Versions.Edition = f.Edition
	}
	markBackfill(&a, inc.Said.Backfill)
	return a
}

// scanAlert renders today's background scanning.
func (b *Book) scanAlert(status string) pipeline.Alert {
	s := b.scan
	n := len(s.members)
	clients := count(int64(n), "clients")
	if s.Beyond > 0 {
		clients = "over " + clients
	}
	f := s.Best
	f.Level, f.Who = "campaign", pipeline.Principal{Kind: pipeline.PrincipalEndpoint, Value: s.value()}
	f.Title = "Internet background scanning: " + clients + ", nothing answered"
	if s.Vacant {
		f.Title = "Internet background scanning: its clients have alerts of their own"
	}
	f.Reason = fmt.Sprintf("%s asked for things that are not here, %s in all; none got an answer worth having.",
		upper(clients), count(s.Sum.Attempted, "paths"))
	f.Next = []string{"Nothing now: a scanner that gets a real answer raises its own alert"}
	f.BenignIf = []string{"the daily noise that every public host sees"}
	f.WouldNotFireIf = "no client had asked for many paths that are not here"
	f.Outcome = pipeline.Outcome{
		Requests: s.Sum.Requests, Attempted: s.Sum.Attempted, Objects: s.Sum.Objects, Basis: f.Outcome.Basis,
		Succeeded: known(s.Sum.Succeeded, s.Sum.NoSuccess), Blocked: known(s.Sum.Blocked, s.Sum.NoBlocked),
		Bytes: known(s.Sum.Bytes, s.Sum.NoBytes),
	}
	f.People, f.FirstSeen, f.Rate5m, f.Labels = [2]int{}, s.First, 0, s.Labels
	f.Endpoint = pipeline.Endpoint{}
	f.Addresses = nil
	members := make([]pipeline.Principal, 0, len(s.Shown))
	for _, m := range s.Shown {
		members = append(members, m.Who)
		if m.Who.Kind == pipeline.PrincipalIP {
			f.Addresses = append(f.Addresses, m.Who.Value)
		}
	}
	f.AddressesTotal = max(len(s.addresses), len(f.Addresses))
	inc := incident{
		Place: place{Who: f.Who, Family: "probe"}, ID: s.ID, Revision: s.Revision, Finding: f, Severity: low, Tier: tierReview,
		Onset: s.Onset, First: s.First, Last: s.Last, Opened: s.Opened, Said: said{Change: s.Change},
	}
	a := b.alert(&inc, status == "open")
	a.Ongoing = status == "open"
	a.Members, a.MembersTotal = members, n
	a.Quality.Identity = "address"
	return a
}

func known(n, missing int64) *int64 {
	if missing > 0 {
		return nil
	}
	return &n
}

// scoreOf is the score of f. Where an endpoint's failures are compared with what
// is usual, chance reaches page level once in 90 days of an endpoint, not of a
// client.
func scoreOf(f *pipeline.Finding) pipeline.AlertScore {
	s := score(f.Score)
	if len(f.Signals) == 1 && f.Signals[0].Name == endpointSignal {
		s.Odds = pipeline.AlertOdds{OneIn: 90, Unit: "endpoint-day", Basis: "bound"}
	}
	return s
}

const endpointSignal = "failures_over_usual"

// oddsMargin is ln 2.5, what the odds of an e-value are lowered by. In a day chance
// has many chances, and evidence that is clipped at zero and halves with age is no
// exact e-value: measured over clean clients, up to two and a half times one in
// e^score of them come as far (docs/detection.md, Calibration).
const oddsMargin = pipeline.Nats(960_801)

func score(n pipeline.Nats) pipeline.AlertScore {
	return pipeline.AlertScore{
		Nats: nats(n), PageAt: nats(pipeline.PageAt), ReviewAt: nats(pipeline.ReviewAt),
		Odds: pipeline.AlertOdds{OneIn: float64(oneIn(n - oddsMargin)), Unit: "client-day", Basis: "bound"},
	}
}

// copied copies a list; none becomes an empty one.
func copied[T any](in []T) []T { return append(make([]T, 0, len(in)), in...) }

func outcome(o pipeline.Outcome) pipeline.Outcome {
	o.Succeeded, o.Blocked, o.Bytes, o.Accounts = ptr(o.Succeeded), ptr(o.Blocked), ptr(o.Bytes), ptr(o.Accounts)
	return o
}

// labels copies the labels; the three that everyone relies on are always there.
func labels(in map[string]string) pipeline.AlertLabels {
	out := pipeline.AlertLabels{"service": "", "env": "", "team": ""}
	maps.Copy(out, in)
	return out
}

func identity(k pipeline.PrincipalKind) string {
	switch k {
	case pipeline.PrincipalIP:
		return "address"
	case pipeline.PrincipalSession, pipeline.PrincipalKey, pipeline.PrincipalAccount, pipeline.PrincipalSubject:
		return k.String()
	}
	return ""
}

// round6 keeps small shares of sampled traffic apart from zero.
func round6(x float64) float64 { return float64(int64(x*1e6+0.5)) / 1e6 }

func upper(s string) string {
	if s != "" && s[0] >= 'a' && s[0] <= 'z' {
		return string(s[0]-'a'+'A') + s[1:]
	}
	return s
}

// revisionOf is the name of one revision, for logs and webhook ids.
func revisionOf(a *pipeline.Alert) string { return fmt.Sprintf("%s.%d", a.ID, a.Revision) }
