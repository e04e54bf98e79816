package detectors

import (
	"slices"

	"weir/pipeline"
)

// refusals counts what one endpoint refused a principal within refusalSpan: should
// a notice say that it refused everybody, they are taken out again.
type refusals struct {
	Template    uint64
	Endpoint    pipeline.Endpoint
	Since, Last pipeline.Time
	N           int64
}

const (
	refusalSpan = pipeline.Time(10 * 60e6)
	maxRefusals = 16
)

// refuse counts o for its endpoint, which is the case's.
func (c *caseFile) refuse(o *pipeline.Observation) {
	if !o.Has(pipeline.ObsMiss) && !o.Has(pipeline.ObsFailed) {
		return
	}
	for i := range slices.Backward(c.Refusals) {
		if r := &c.Refusals[i]; r.Template == o.Template && o.Time-r.Since < refusalSpan {
			r.Last = max(r.Last, o.Time)
			r.N++
			return
		}
	}
	if len(c.Refusals) >= maxRefusals {
		c.Refusals = slices.Delete(c.Refusals, 0, 1) // what is longest ago, no notice is about
	}
	c.Refusals = append(c.Refusals, refusals{Template: o.Template, Endpoint: c.Endpoint, Since: o.Time, Last: o.Time, N: 1})
}

// shares splits what refusals add to a score among the endpoints that refused.
// What else speaks against a client, near ids and names on word lists, is no
// endpoint's doing.
func (c *caseFile) shares(signals []pipeline.FindingSignal) []pipeline.EndpointShare {
	var nats pipeline.Nats
	var counted int64
	for i := range signals {
		if s := &signals[i]; ofRefusals(s.Name) {
			nats += s.Nats
			counted = max(counted, s.Count)
		}
	}
	if nats == 0 {
		return nil
	}
	total := int64(0)
	for i := range c.Refusals {
		total += c.Refusals[i].N
	}
	total = max(total, counted)
	var out []pipeline.EndpointShare
	for i := range c.Refusals {
		r := &c.Refusals[i]
		out = append(out, pipeline.EndpointShare{
			Endpoint: r.Endpoint, Since: r.Since, Last: r.Last, Nats: nats * pipeline.Nats(r.N) / pipeline.Nats(total),
		})
	}
	return out
}

// ofRefusals reports whether the signal called name counts refusals.
func ofRefusals(name string) bool {
	switch name {
	case "object_miss", "first_contact_miss", "login_failure", "account_login_failure", "accounts_refused", "unknown_account":
		return true
	}
	return false
}
