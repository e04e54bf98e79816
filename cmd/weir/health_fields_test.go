package main

import (
	"testing"
	"time"

	"weir/pipeline"
	"weir/storage"
)

// TestHealthFields: a field that left the log is told, one that is rare at night
// is not, and nothing that a client alone can do or stop doing makes a fault.
func TestHealthFields(t *testing.T) {
	const m = time.Minute
	hour := func(r *healthRig, n int, make func(i int) pipeline.Request) {
		for range 60 {
			b := &pipeline.Block{Rejects: pipeline.Rejects{Lines: int64(n)}}
			for i := range n {
				q := make(i)
				q.Time = pipeline.TimeOf(r.now)
				b.Requests = append(b.Requests, q)
			}
			r.p.hear(b, r.now)
			r.pass(m, 0, 0)
		}
	}
	client := func(i int) pipeline.Request {
		a, _ := pipeline.ParseAddress("203.0.113.9")
		q := pipeline.Request{Status: 200, Address: a}
		if i%3 == 0 {
			q.Account = "u_ann"
		}
		return q
	}
	r := newHealthRig(storage.Rhythm{})
	hour(r, 50, client)
	r.want(t, "a day")
	hour(r, 50, func(i int) pipeline.Request { return client(i*7 + 1) }) // no multiples of 3 but some
	r.want(t, "other people")
	hour(r, 50, func(i int) pipeline.Request {
		q := client(i)
		if i%40 != 0 {
			q.Account = ""
		}
		return q
	})
	r.want(t, "a night with few users")

	r = newHealthRig(storage.Rhythm{})
	hour(r, 50, client)
	hour(r, 5, func(i int) pipeline.Request { return client(1) })
	r.want(t, "little traffic without a user", "health.identity", "health.identity", "health.identity", "health.identity")

	r = newHealthRig(storage.Rhythm{})
	hour(r, 50, client)
	hour(r, 50, func(i int) pipeline.Request {
		q := client(1)
		q.Status, q.Account, q.Flags = 401, "u_guess", pipeline.FlagRefused
		a, _ := pipeline.ParseAddress("198.51.100.1")
		if i%4 == 0 {
			q.Forwarded = a
		}
		if i%3 == 0 {
			return client(i)
		}
		return q
	})
	hour(r, 50, client)
	r.want(t, "an attacker with credentials and forged headers comes and goes")

	r = newHealthRig(storage.Rhythm{})
	behind := func(i int) pipeline.Request {
		q := client(i)
		q.Forwarded = q.Address
		return q
	}
	hour(r, 50, behind)
	hour(r, 50, client)
	r.want(t, "a proxy's header is gone", "health.identity", "health.identity", "health.identity", "health.identity", "health.identity", "health.identity")

	r = newHealthRig(storage.Rhythm{})
	login := func(i int) pipeline.Request {
		q := client(i)
		if i%10 == 0 {
			q.Flags, q.LoginUser, q.Account = pipeline.FlagLogin, "u_ann", ""
		}
		return q
	}
	hour(r, 50, login)
	hour(r, 50, client)
	r.want(t, "nobody logs in any more")
	hour(r, 50, func(i int) pipeline.Request {
		q := login(i)
		q.LoginUser = ""
		return q
	})
	if len(r.got) == 0 || r.got[0] != "health.identity" {
		t.Errorf("logins without the account: %v", r.got)
	}
}
