package main

import (
	"fmt"
	"sync/atomic"
	"time"

	"weir/pipeline"
)

// A log that stops saying who a client is reads well and makes weir blind: a
// field that left the log format, a header that a proxy sends no more. What a
// source usually shows is learned from itself; that a field is gone, not rare, is
// told.

// told fields of a request.
type toldField int

const (
	fieldUser toldField = iota
	fieldKey
	fieldSession
	fieldLogin
	fieldClaim  // an address in a forwarding header that is not believed
	fieldClient // the client's address: not that of a trusted proxy
	toldFields
)

// toldCounts counts requests that could have a field, and those that do; any
// goroutine may read it.
type toldCounts struct {
	of, have [toldFields]atomic.Int64
}

// add counts the requests of a block; trusted tells the proxies, nil none. What
// a client merely sends does not count: attackers come and go.
func (c *toldCounts) add(rs []pipeline.Request, trusted func(pipeline.Address) bool) {
	var of, have [toldFields]int64
	count := func(f toldField, has bool) {
		of[f]++
		if has {
			have[f]++
		}
	}
	for i := range rs {
		r := &rs[i]
		if r.Flags&pipeline.FlagLogin != 0 {
			count(fieldLogin, r.LoginUser != "")
		}
		if r.Status >= 200 && r.Status < 400 {
			count(fieldUser, r.Account != "")
			count(fieldKey, r.Key != "")
			count(fieldSession, r.Session != "")
		}
		count(fieldClaim, !r.Forwarded.IsZero())
		count(fieldClient, !r.Address.IsZero() && (trusted == nil || !trusted(r.Address)))
	}
	for f := range have {
		c.of[f].Add(of[f])
		c.have[f].Add(have[f])
	}
}

// fieldWatch follows one field of a source.
type fieldWatch struct {
	usual   float64 // share of the requests that have it
	seen    float64 // requests that usual was learned from
	of      int64   // counted so far, at the last look
	have    int64
	missing int // looks in a row without it
}

const (
	fieldKnown    = 100   // requests, before a source has a usual share
	fieldForgets  = 20000 // requests that usual remembers
	fieldExpected = 20    // requests with the field that should have come: none by chance once in e^20
	fieldGone     = 0.02  // of these
	fieldLooks    = 2
)

// look takes the counts of this minute and tells whether the field is gone.
func (w *fieldWatch) look(of, have int64) bool {
	n, h := float64(of-w.of), float64(have-w.have)
	expected := w.usual * n
	if n == 0 || w.seen >= fieldKnown && w.usual > 0 && expected < fieldExpected && n < fieldForgets {
		return w.missing >= fieldLooks // wait for more
	}
	w.of, w.have = of, have
	if w.seen >= fieldKnown && expected >= fieldExpected && h < expected*fieldGone {
		w.missing++
		return w.missing >= fieldLooks
	}
	w.missing = 0
	w.usual += (h/n - w.usual) * n / (min(w.seen, fieldForgets) + n)
	w.seen += n
	return false
}

// goneFields looks once a minute at what the source's requests say of clients.
func (w *watched) goneFields(now time.Time) (list []pipeline.Finding) {
	if now.Sub(w.fieldMinute) >= time.Minute {
		w.fieldMinute = now
		for f := range w.fields {
			gone := w.fields[f].look(w.pulse.told.of[f].Load(), w.pulse.told.have[f].Load())
			// A forwarding header is a proxy's where most requests have it.
			w.gone[f] = gone && (toldField(f) != fieldClaim || w.fields[f].usual >= 0.5)
		}
	}
	for f, gone := range w.gone {
		if gone {
			list = append(list, w.goneField(toldField(f)))
		}
	}
	return list
}

// goneField is the finding about a field that the source shows no more.
func (w *watched) goneField(f toldField) pipeline.Finding {
	usual := w.fields[f].usual
	words := [toldFields]struct{ what, of, cost, fix string }{
		fieldUser: {
			"user", "requests that are answered with success", "Clients are taken for their addresses, and whose an object is is not known.",
			"Does the log format still have the user ($remote_user, or the member that was called user)? docs/logs.md has formats that do",
		},
		fieldKey:     {"API key", "requests that are answered with success", "Partners are taken for their addresses.", "Does the log format still have the API key (api_key)? docs/logs.md has formats that do"},
		fieldSession: {"session", "requests that are answered with success", "Clients behind one address are taken for one.", "Does the log format still have the session's cookie? docs/logs.md has formats that do"},
		fieldLogin: {
			"account of a login", "login attempts", "auth.stuffing, auth.spraying and enum.user see less.",
			"Does the application still tell the log which account was tried (login_user)? docs/logs.md has how",
		},
		fieldClaim: {
			"X-Forwarded-For", "requests", "Clients behind a proxy are taken for the proxy.",
			"Does the proxy still send X-Forwarded-For, and the log format have it ($http_x_forwarded_for)?",
		},
		fieldClient: {
			"client's address", "requests", "Everybody behind a proxy is taken for the proxy.",
			"Does the proxy still send X-Forwarded-For, and the log format have it ($http_x_forwarded_for)?",
		},
	}[f]
	g := healthFinding("health.identity", w.name+": "+words.what, w.name+" shows no "+words.what+" any more",
		fmt.Sprintf("Usually %.0f %% of the %s have it, now none does. %s", 100*usual, words.of, words.cost),
		"share", 0, usual, words.fix)
	g.BenignIf = []string{"a service that was taken out of this log"}
	g.WouldNotFireIf = fmt.Sprintf("one in %.0f of them had shown it", max(1, 1/max(usual*fieldGone, 1e-6)))
	return g
}
