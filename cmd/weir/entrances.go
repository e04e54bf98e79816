package main

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	"weir/pipeline"
)

// entrances looks for logins that are not named like one: a client without an
// account posts somewhere, is answered with success, and under an account that
// was never seen at its address before: in that answer, or in the next request. Who only renews a token
// had the account before. What is found is proposed, never believed: a sign-up
// behaves the same. Maps are bounded; at the bound nothing new is taken up.
type entrances struct {
	posted map[uint64]entrance // last anonymous success, by address
	had    map[uint64]struct{} // address and account
	places map[string]*entrancePlace
}

type entrance struct {
	place *entrancePlace
	at    pipeline.Time
}

type entrancePlace struct {
	name     string
	posts    int64 // answered with success
	refused  int64
	entered  int64
	accounts map[string]struct{} // that entered, up to a few
}

const (
	maxEntrancePlaces  = 512
	maxEntranceClients = 1 << 14
	maxEntranceHad     = 1 << 16
	minEntered         = 5 // accounts
	entranceWindow     = 60 * time.Second
)

func newEntrances() entrances {
	return entrances{posted: map[uint64]entrance{}, had: map[uint64]struct{}{}, places: map[string]*entrancePlace{}}
}

func (e *entrances) add(r *pipeline.Request) {
	if r.Address.IsZero() || r.Kind <= pipeline.PrincipalIP && (r.Verb == pipeline.VerbGet || r.Verb == pipeline.VerbHead) {
		return // reads of nobody: by far the most
	}
	post := (r.Verb == pipeline.VerbPost || r.Verb == pipeline.VerbPut) && len(r.Path) <= 256
	if r.Flags&pipeline.FlagLogin != 0 {
		// By its name, or because an HTTP user was refused.
		if p := e.places[r.Method+" "+r.Path]; p != nil && post && r.Answer() >= 400 {
			p.refused++
		}
		return
	}
	client, status := r.Address.Owner(), r.Answer()
	good := status >= 200 && status < 400
	var place *entrancePlace
	if post && r.Key == "" && (good || r.Account == "") {
		if place = e.place(r); place != nil && good {
			place.posts++
		}
	}
	if r.Account != "" && good {
		// The application may name the account in the answer already.
		at, entered := place, place != nil
		if !entered {
			if p, ok := e.posted[client]; ok && r.Time.Sub(p.at) <= entranceWindow {
				at, entered = p.place, true
			}
		}
		delete(e.posted, client)
		key := pipeline.Mix64(client, pipeline.Hash64(r.Account))
		if _, ok := e.had[key]; ok || len(e.had) >= maxEntranceHad {
			return
		}
		e.had[key] = struct{}{}
		if entered {
			at.entered++
			if len(at.accounts) < minEntered {
				at.accounts[strings.Clone(r.Account)] = struct{}{}
			}
		}
		return
	}
	switch {
	case place == nil:
	case good:
		if _, ok := e.posted[client]; ok || len(e.posted) < maxEntranceClients {
			e.posted[client] = entrance{place, r.Time}
		}
	case status == 400 || status == 401 || status == 403 || status == 422:
		place.refused++
	}
}

// place returns where r posts to; nil beyond the bound.
func (e *entrances) place(r *pipeline.Request) *entrancePlace {
	name := r.Method + " " + r.Path
	p := e.places[name]
	if p == nil && len(e.places) < maxEntrancePlaces {
		p = &entrancePlace{name: strings.Clone(name), accounts: map[string]struct{}{}}
		e.places[p.name] = p
	}
	return p
}

// found lists the places that at least five accounts entered by, and by most of
// their successes; the likeliest first, three at most.
func (e *entrances) found() []*entrancePlace {
	var list []*entrancePlace
	for _, p := range e.places {
		if len(p.accounts) >= minEntered && p.entered*2 >= p.posts {
			list = append(list, p)
		}
	}
	slices.SortFunc(list, func(x, y *entrancePlace) int {
		return cmp.Or(cmp.Compare(y.entered, x.entered), strings.Compare(x.name, y.name))
	})
	return list[:min(3, len(list))]
}

func (p *entrancePlace) text() string {
	shown := fmt.Sprintf("%q", p.name)
	return fmt.Sprintf("%s looks like a login: after %d of its %d successes a new account showed at the address, and %d were refused. If it is one: endpoints: [{match: %s, role: login}]",
		shown[1:len(shown)-1], p.entered, p.posts, p.refused, shown)
}
