package alerts

import (
	"fmt"
	"math"
	"slices"
	"strings"
	"unicode/utf8"

	"weir/pipeline"
)

// What an incident keeps of a finding, at most. Longer text is cut with "…";
// cut lists of accounts and objects are marked as truncated.
const (
	maxText      = 1000
	maxWord      = 256
	maxSignals   = 32
	maxShares    = 16
	maxAddresses = 16
	maxAffected  = 100
	maxAccounts  = 256
	maxExemplars = 8
	maxHints     = 8
	maxAgents    = 4
	maxListed    = 256
	maxLabels    = 32
)

// clean returns a copy of f that shares no memory with it, within the bounds,
// with valid UTF-8, finite numbers and times that RFC 3339 can write: what is
// printed, stored and restored is then the same.
func clean(f *pipeline.Finding) pipeline.Finding {
	g := *f
	g.Time = clampTime(f.Time, 0)
	g.Last = clampTime(f.Last, g.Time)
	g.First = clampTime(f.First, g.Last)
	g.Onset = clampTime(f.Onset, g.First)
	g.FirstSeen = clampTime(f.FirstSeen, g.First)
	g.ID = word(f.ID)
	g.Detector, g.Level, g.Edition, g.Supersedes = word(f.Detector), word(f.Level), word(f.Edition), word(f.Supersedes)
	g.Who.Value = name(f.Who.Value)
	g.Title, g.Reason, g.WouldNotFireIf = text(f.Title), text(f.Reason), text(f.WouldNotFireIf)
	g.Next, g.BenignIf = words(f.Next, maxHints, text), words(f.BenignIf, maxHints, text)
	g.Attack, g.OWASP, g.OAT = words(f.Attack, maxHints, word), words(f.OWASP, maxHints, word), words(f.OAT, maxHints, word)
	g.Endpoint = pipeline.Endpoint{Method: word(f.Endpoint.Method), Host: word(f.Endpoint.Host), Template: text(f.Endpoint.Template)}
	g.Predicate, g.Estimate = text(f.Predicate), ptr(f.Estimate)
	g.Members = slices.Clone(f.Members[:min(len(f.Members), maxShown)])
	for i := range g.Members {
		g.Members[i].Value = name(g.Members[i].Value)
	}
	g.MembersTotal = max(f.MembersTotal, len(g.Members))
	g.Addresses = words(f.Addresses, maxAddresses, word)
	g.AddressesTotal = max(f.AddressesTotal, len(g.Addresses))
	g.Agents, g.JA4 = words(f.Agents, maxAgents, text), words(f.JA4, maxAgents, word)
	g.Objects = words(f.Objects, maxAffected, text)
	g.Truncated = f.Truncated || len(f.Objects) > maxAffected || len(f.Accounts) > maxAccounts
	g.Rate5m, g.Late = max(f.Rate5m, 0), max(f.Late, 0)
	if !(f.Sampled > 0 && f.Sampled <= 1) {
		g.Sampled = 1
	}
	o := &g.Outcome
	o.Succeeded, o.Blocked = ptr(o.Succeeded), ptr(o.Blocked)
	o.Bytes, o.Accounts = ptr(o.Bytes), ptr(o.Accounts)
	o.BlockedBy, o.Basis = word(o.BlockedBy), word(o.Basis)
	if o.Basis == "" {
		o.Basis = "unknown"
	}

	g.Shares = slices.Clone(f.Shares[:min(len(f.Shares), maxShares)])
	for i := range g.Shares {
		e := &g.Shares[i].Endpoint
		e.Method, e.Host, e.Template = word(e.Method), word(e.Host), text(e.Template)
	}
	g.Signals = slices.Clone(f.Signals[:min(len(f.Signals), maxSignals)])
	for i := range g.Signals {
		s := &g.Signals[i]
		s.Name, s.Baseline.Kind = word(s.Name), word(s.Baseline.Kind)
		s.Observed, s.Expected = finite(s.Observed), finite(s.Expected)
		if t := s.Baseline.Since; t != nil && inRange(*t) {
			since := *t
			s.Baseline.Since = &since
		} else {
			s.Baseline.Since = nil
		}
	}
	g.Accounts = slices.Clone(f.Accounts[:min(len(f.Accounts), maxAccounts)])
	for i := range g.Accounts {
		a := &g.Accounts[i]
		a.Name, a.Outcome, a.Session = name(a.Name), word(a.Outcome), word(a.Session)
		a.Time = clampTime(a.Time, g.Last)
	}
	g.Exemplars = slices.Clone(f.Exemplars[:min(len(f.Exemplars), maxExemplars)])
	for i := range g.Exemplars {
		e := &g.Exemplars[i]
		e.IP, e.Method, e.Path = word(e.IP), word(e.Method), text(e.Path)
		e.Agent, e.Source = text(e.Agent), text(e.Source)
		e.Time, e.Bytes = clampTime(e.Time, g.Last), ptr(e.Bytes)
	}
	g.Members = slices.Clone(f.Members[:min(len(f.Members), maxListed)])
	for i := range g.Members {
		g.Members[i].Value = name(g.Members[i].Value)
	}
	g.MembersTotal, g.Predicate = max(f.MembersTotal, len(f.Members)), text(f.Predicate)
	g.Estimate = ptr(f.Estimate)
	g.Labels = cleanLabels(f.Labels)
	return g
}

// cleanLabels keeps at most maxLabels, the first by key.
func cleanLabels(in map[string]string) map[string]string {
	out := map[string]string{}
	for _, k := range sortedKeys(in) {
		if len(out) == maxLabels {
			break
		}
		out[word(k)] = word(in[k])
	}
	return out
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func text(s string) string { return cut(valid(s), maxText) }
func word(s string) string { return cut(valid(s), maxWord) }

// name is word for what identifies someone: two names that differ stay
// different when they are cut.
func name(s string) string {
	if v := valid(s); len(v) <= maxWord {
		return v
	}
	return cut(valid(s), maxWord-20) + fmt.Sprintf("#%016x", pipeline.Hash64(s))
}

func words(in []string, n int, f func(string) string) []string {
	out := make([]string, 0, min(len(in), n))
	for _, s := range in[:min(len(in), n)] {
		out = append(out, f(s))
	}
	return out
}

// valid writes bytes that are no UTF-8 as \xNN.
func valid(s string) string {
	if utf8.ValidString(s) {
		return strings.Clone(s)
	}
	var b strings.Builder
	for len(s) > 0 {
		r, n := utf8.DecodeRuneInString(s)
		if r == utf8.RuneError && n == 1 {
			fmt.Fprintf(&b, `\x%02x`, s[0])
		} else {
			b.WriteString(s[:n])
		}
		s = s[n:]
	}
	return b.String()
}

// cut shortens s to at most n bytes, between characters.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	n -= len("…")
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n] + "…"
}

// The years 1 to 9999, which RFC 3339 can write.
const (
	firstTime pipeline.Time = -62135596800_000000
	lastTime  pipeline.Time = 253402300799_999999
)

func inRange(t pipeline.Time) bool { return t >= firstTime && t <= lastTime }

// clampTime returns t, or otherwise for one that is not set or out of range.
func clampTime(t, otherwise pipeline.Time) pipeline.Time {
	if t != 0 && inRange(t) {
		return t
	}
	return otherwise
}

func finite(x float64) float64 {
	if math.IsNaN(x) {
		return 0
	}
	return min(max(x, -1e15), 1e15)
}

func ptr[T any](p *T) *T {
	if p == nil {
		return nil
	}
	v := *p
	return &v
}
