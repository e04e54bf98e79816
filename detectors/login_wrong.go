package detectors

import (
	"slices"

	"weir/pipeline"
)

// Many logins answer alike in status to a wrong password and to a name that has no
// account, and differ in size. Which size is a wrong password's is learned in a
// fit: people know their own names, so what most of them are answered when they
// fail is that. A failure of the same status and clearly another size then says
// that there is no such account, if the same client is answered the other way, too:
// programs may be answered in another form than browsers. Other statuses say
// nothing: they are limits, locks and gateways.

// wrongFrom is how many clients that failed make it known.
const wrongFrom = 10

// fitWrong learns what a wrong password is answered.
func (f *Fitter) fitWrong(facts []pathFacts, endpoints map[uint64]*EndpointBaseline) {
	type failure struct {
		template, client uint64
		status           uint16
		size             int32
	}
	var all []failure
	for i := range f.rows {
		r := &f.rows[i]
		if r.flags&fitLogin == 0 || r.size < 0 {
			continue
		}
		t := facts[r.path].template
		if failed, known := r.failed(endpoints[t]); failed && known {
			all = append(all, failure{t, r.client, r.status, r.size})
		}
	}
	slices.SortFunc(all, func(x, y failure) int {
		switch {
		case x.template != y.template:
			return compare(x.template, y.template)
		case x.status != y.status:
			return int(x.status) - int(y.status)
		case x.size != y.size:
			return int(x.size) - int(y.size)
		}
		return compare(x.client, y.client)
	})
	all = slices.Compact(all) // a client counts once for an answer
	for from := 0; from < len(all); {
		to := from
		for to < len(all) && all[to].template == all[from].template {
			to++
		}
		best := LoginAnswer{}
		for i := from; i < to; {
			a := LoginAnswer{Status: all[i].status, From: all[i].size, To: all[i].size, Failed: true}
			for ; i < to && all[i].status == a.Status && all[i].size-a.To <= a.slack(); i++ {
				a.To = all[i].size
				a.Clients++
			}
			if a.Clients > best.Clients {
				best = a
			}
		}
		if best.Clients >= wrongFrom && 2*best.Clients >= to-from {
			endpointOf(endpoints, all[from].template).Wrong = best
		}
		from = to
	}
}

// slack is what sizes of one kind of answer differ by.
func (a *LoginAnswer) slack() int32 { return max(8, a.From/50) }

// unknownAccount reports whether a failed login's answer says that there is no
// such account: it is answered as a wrong password is, but for the size.
func (e *EndpointBaseline) unknownAccount(o *pipeline.Observation) bool {
	if e == nil || e.Wrong.Clients == 0 || o.Status != e.Wrong.Status || o.Bytes < 0 {
		return false
	}
	size, slack := answerSize(o.Bytes), e.Wrong.slack()
	return size < e.Wrong.From-slack || size > e.Wrong.To+slack
}
