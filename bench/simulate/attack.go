package simulate

import (
	"fmt"
	"math"
	"strings"
	"time"
)

// attackKind is a type of attack with its defaults.
type attackKind struct {
	name     string
	about    string
	variants []variant // the first is the default
	def      Attack    // Rate, Requests, Duration, Sources, Success where a scenario gives none
	script   func(c *client)
	honest   func(c *client) // who owns what is stolen, all day long
}

type variant struct{ name, about string }

func (k *attackKind) variantNames() []string {
	var names []string
	for _, v := range k.variants {
		names = append(names, v.name)
	}
	return names
}

// attackKinds lists them; the names are those of the detectors.
func attackKinds() []attackKind {
	return []attackKind{
		{
			name: "enum.object", about: "reads other people's objects, logged in with an account of its own",
			variants: []variant{
				{"sequential", "walks ids; several sources tile one range"},
				{"leaked", "random ids that it knows, UUIDs on saas"},
				{"public", "walks the public catalogue: nothing is stolen"},
			},
			def: Attack{Rate: 1, Requests: 200, Sources: 1, Success: 1}, script: enumObject,
		},
		{
			name: "enum.user", about: "asks which accounts exist; success is the share that does",
			variants: []variant{{"login", "by what a failed login answers"}, {"reset", "by the password reset"}, {"register", "by registering"}},
			def:      Attack{Rate: .5, Requests: 200, Sources: 1, Success: .3}, script: enumUser,
		},
		{
			name: "probe.path", about: "tries paths that might be there; success is the share that is",
			variants: []variant{{"wordlist", "names that leak secrets, and guesses"}, {"guesses", "ordinary words only, nothing known to be bad"}},
			def:      Attack{Rate: 5, Requests: 300, Sources: 1, Success: .01}, script: probePath,
		},
		{
			name: "auth.bruteforce", about: "one account, many passwords; success is the chance that the last one works",
			variants: []variant{{"passwords", "one account"}},
			def:      Attack{Rate: .5, Requests: 200, Sources: 1, Success: .5}, script: bruteforce,
		},
		{
			name: "auth.stuffing", about: "pairs of names and passwords from elsewhere; success is the share that works",
			variants: []variant{{"fingerprint", "all sources are one tool"}, {"diffuse", "sources look like people at home"}},
			def:      Attack{Rate: .2, Requests: 300, Sources: 1, Success: .01}, script: stuffing,
		},
		{
			name: "auth.spraying", about: "few passwords over a list of accounts, round after round",
			variants: []variant{{"fingerprint", "all sources are one tool"}, {"diffuse", "sources look like people at home"}},
			def:      Attack{Rate: .5, Requests: 200, Sources: 1, Success: .01, Rounds: 4, Every: 90 * time.Minute}, script: spraying,
		},
		{
			name: "auth.takeover", about: "uses a victim's account from elsewhere and changes its address and payout; requests counts victims, at most 32",
			variants: []variant{{"stuffed", "20 failed logins, one that works, then another place"}, {"session", "a stolen session goes on elsewhere with another stack"}},
			def:      Attack{Rate: .2, Requests: 3, Sources: 1, Success: 1}, script: takeover, honest: victim,
		},
		{
			name: "scrape.crawl", about: "copies the catalogue",
			variants: []variant{{"fast", "lists and items in order"}, {"human", "at the pace and with the looks of people"}, {"cursor", "page after page of one list"}},
			def:      Attack{Rate: 2, Requests: 1500, Sources: 1, Success: 1}, script: scrape,
		},
		{
			name: "key.misuse", about: "a leaked key is used from elsewhere, for other things than its owner does",
			variants: []variant{{"leaked", "reads and exports"}, {"scopes", "tries what the key may do: half is refused"}},
			def:      Attack{Rate: .3, Requests: 200, Sources: 1, Success: .8}, script: keyMisuse, honest: keyOwner,
		},
		{
			name: "data.exposure", about: "takes more at once than anybody does",
			variants: []variant{{"limit", "limit=100000"}, {"export", "all pages of an export"}},
			def:      Attack{Rate: .05, Requests: 20, Sources: 1, Success: 1}, script: dataExposure,
		},
		{
			name: "inject.probe", about: "payloads in parameters; success is the share that has an effect (500)",
			variants: []variant{
				{"mixed", "all of the others"}, {"sqli", "SQL"}, {"xss", "script"}, {"traversal", "paths"}, {"command", "shell"},
			},
			def: Attack{Rate: 1, Requests: 120, Sources: 1, Success: .15}, script: injectProbe,
		},
		{
			name: "volume.flood", about: "more requests than the site is made for",
			variants: []variant{{"search", "the dearest endpoint"}, {"home", "the front page"}},
			def:      Attack{Rate: 50, Duration: time.Minute, Sources: 2, Success: 1}, script: flood,
		},
	}
}

func attackNamed(name string) (attackKind, bool) {
	for _, k := range attackKinds() {
		if k.name == name {
			return k, true
		}
	}
	return attackKind{}, false
}

func attackNames() []string {
	var names []string
	for _, k := range attackKinds() {
		names = append(names, k.name)
	}
	return names
}

// withDefaults fills in what the scenario leaves open.
func (a Attack) withDefaults() Attack {
	k, _ := attackNamed(a.Type)
	if a.Variant == "" {
		a.Variant = k.variants[0].name
	}
	if a.Sources == 0 {
		a.Sources = k.def.Sources
	}
	if a.Rate == 0 {
		a.Rate = k.def.Rate
	}
	if a.Requests == 0 && a.Duration == 0 {
		a.Requests, a.Duration = k.def.Requests, k.def.Duration
	}
	if a.Success < 0 {
		a.Success = k.def.Success
	}
	if a.Rounds == 0 {
		a.Rounds = max(1, k.def.Rounds)
	}
	if a.Every == 0 {
		a.Every = k.def.Every
	}
	if a.Type == "auth.takeover" {
		a.Requests = min(32, max(1, a.Requests))
	}
	return a
}

// note says in a label what was done.
func (a *Attack) note() string {
	var how []string
	add := func(is bool, format string, v ...any) {
		if is {
			how = append(how, fmt.Sprintf(format, v...))
		}
	}
	e := &a.Evade
	add(e.Jitter > 0, "jitter %g", e.Jitter)
	add(e.Shuffle, "shuffled")
	add(e.Stride > 1, "stride %d", e.Stride)
	add(e.Agents, "rotating agents")
	add(e.Addresses > 1, "%d addresses a source", e.Addresses)
	add(e.Accounts > 1, "%d accounts a source", e.Accounts)
	add(e.Diurnal, "by day")
	add(e.Ramp > 0, "growing %g %% a day", 100*e.Ramp)
	add(e.Own > 0, "%g %% of its own", 100*e.Own)
	add(a.Canary > 0, "%g %% canaries", 100*a.Canary)
	s := fmt.Sprintf("%s: %d sources at %.4g an hour each", a.Variant, a.Sources, a.Rate*3600)
	if len(how) > 0 {
		s += "; " + strings.Join(how, ", ")
	}
	return s
}

// attacker is one source of an attack.
type attacker struct {
	*client
	a       *Attack
	k       *attackKind
	start   int64 // of the attack
	at      int64 // when the request at hand was due
	total   int64 // requests of all sources
	first   int64 // number of this source's first
	n       int64 // how many are its own
	j       int64 // how many it has made
	network netKind
	stack   stack
}

func newAttacker(c *client) *attacker {
	a := c.g.attack
	k, _ := attackNamed(a.Type)
	t := &attacker{client: c, a: a, k: &k, start: c.g.at, at: c.now}
	sources := int64(a.Sources)
	if a.Requests > 0 {
		t.total = int64(a.Requests)
	} else {
		days := a.Duration.Hours() / 24
		t.total = sources * (1 + int64(math.Ceil(min(1e12, a.Rate*a.Duration.Seconds()*math.Pow(1+a.Evade.Ramp, days)))))
	}
	t.total = min(t.total, 1<<40)
	i := int64(c.index)
	t.n, t.first = t.total/sources, i*(t.total/sources)+min(i, t.total%sources)
	if i < t.total%sources {
		t.n++
	}
	diffuse := a.Variant == "diffuse" || a.Variant == "human"
	switch {
	case a.Network == "mobile":
		t.network = netMobile
	case a.Network == "hosting", a.Network == "" && !diffuse && a.Sources <= 20:
		t.network = netHosting
	}
	// One episode has one tool; diffuse sources look like people.
	tool := c.w.stream(c.g, 0, 0, 5)
	t.stack = tools[tool.IntN(len(tools))]
	switch {
	case diffuse:
		t.stack = personStack(c.w, c.r)
	case a.Type == "enum.object" || a.Type == "scrape.crawl" && tool.IntN(2) == 0:
		t.stack = stack{browsers[0].agent, ja4Python, 1} // it says it is a browser
	}
	c.account = c.g.account + c.index*max(1, a.Evade.Accounts)
	c.tenant = c.account % tenantCount
	t.appear(0)
	if sources > 1 {
		c.wait(c.r.Float64() * min(600, 1/a.Rate))
	}
	t.at = c.now
	return t
}

// appear shows the source at its n-th address.
func (t *attacker) appear(n uint64) {
	id := t.w.place(t.network, t.g.addr+uint64(t.index*max(1, t.a.Evade.Addresses))+n)
	t.id.ip, t.id.asn, t.id.country = id.ip, id.asn, id.country
	t.id.wear(t.stack)
	t.g.truth.saw(&t.id)
}

// quietly makes requests that are no attempts.
func (t *attacker) quietly(f func()) {
	t.attack = false
	f()
	t.attack = true
}

// enter logs in with an account of the attacker's own.
func (t *attacker) enter() {
	t.quietly(func() {
		t.login(t.w.site.accountName(t.account), true)
		t.g.truth.saw(&t.id)
		t.wait(2)
	})
	t.at = t.now
}

// step waits for the next request's time and puts the evasions on. It returns
// false when the source is done.
func (t *attacker) step() bool {
	e := &t.a.Evade
	if t.j > 0 {
		pace := t.a.Rate
		if e.Diurnal {
			pace *= max(.02, t.g.curve.at(t.w, t.at))
		}
		if e.Ramp > 0 {
			pace *= math.Pow(1+e.Ramp, float64(t.at-t.start)/86400e6)
		}
		gap := 1 / pace
		switch {
		case e.Jitter >= 1:
			gap *= t.r.ExpFloat64()
		case e.Jitter > 0:
			gap *= 1 + e.Jitter*(2*t.r.Float64()-1)
		default:
			gap *= .95 + .1*t.r.Float64()
		}
		t.at += 1 + int64(min(1e15, gap*1e6))
	}
	t.now = t.at
	if t.j >= t.n || t.over || t.at >= t.w.end || t.g.len > 0 && t.at >= t.start+t.g.len {
		return false
	}
	t.j++
	if e.Addresses > 1 {
		t.appear(t.r.Uint64N(uint64(e.Addresses)))
	}
	if e.Agents {
		t.id.wear(browsers[t.r.IntN(len(browsers))])
	}
	if e.Accounts > 1 && t.id.user != "" {
		k := t.r.IntN(e.Accounts)
		t.account = t.g.account + t.index*e.Accounts + k
		t.id.user = t.w.site.accountName(t.account)
		t.id.session = hex16(hash2(t.w.seed^t.g.key, uint64(t.account)))
		t.g.truth.saw(&t.id)
	}
	if t.id.user != "" && t.w.loggedOut(t.client) {
		t.enter()
	}
	if e.Own > 0 && t.id.user != "" {
		for !t.over && t.chance(min(.95, e.Own)) {
			t.quietly(func() { t.get(opObject, t.w.site.object(t.account, t.r.IntN(ownedObjects))) })
			t.wait(.5 / t.a.Rate)
			t.at = t.now
		}
	}
	return !t.over
}

// target is the number of the request at hand among all of the attack: sources
// have a contiguous part each.
func (t *attacker) target() int64 {
	k := t.first + t.j - 1
	if t.a.Evade.Shuffle {
		k = int64(permute(uint64(k), uint64(t.total), t.w.seed^t.g.key))
	}
	return k * int64(max(1, t.a.Evade.Stride))
}

// asked is what the last request was for, as alerts list it.
func (c *client) asked() string {
	if c.object == "" {
		return c.ev.Path
	}
	return c.object
}

func enumObject(c *client) {
	t := newAttacker(c)
	s := &c.w.site
	t.enter()
	objects := s.objects()
	spread := t.total * int64(max(1, t.a.Evade.Stride))
	base := int64(hash2(c.w.seed^c.g.key, 9) % uint64(max(1, objects-spread)))
	for t.step() {
		k := t.target()
		if t.a.Variant == "public" {
			c.get(opItem, s.itemAt((base+k)%int64(s.items)))
			continue
		}
		var object int64
		if t.a.Variant == "leaked" || s.kind == "saas" {
			object = int64(permute(uint64(k%objects), uint64(objects), c.w.seed^c.g.key))
		} else {
			object = s.objectAt(firstObject + (base+k)%objects)
		}
		status := 200
		switch {
		case s.gone(object):
			status = 404
		case unit(hash2(c.w.seed^c.g.key, uint64(object))) >= t.a.Success:
			status = 403
		}
		if c.get2(opObject, object, status) == 200 && s.owner(object) != c.account && !c.over {
			c.g.truth.got(c.asked())
		}
	}
}

// candidate is the k-th name on a list of which the given share has an account.
func (t *attacker) candidate(k int64, known float64) (name string, exists bool) {
	s := &t.w.site
	h := hash2(t.w.seed^t.g.key, uint64(k))
	n := int(permute(uint64(k)%uint64(s.accounts), uint64(s.accounts), t.w.seed^t.g.key))
	if exists = unit(h) < known; !exists {
		n += s.accounts
	}
	return s.accountName(n), exists
}

func enumUser(c *client) {
	t := newAttacker(c)
	s := &c.w.site
	for t.step() {
		name, exists := t.candidate(t.target(), t.a.Success)
		var k call
		switch t.a.Variant {
		case "reset":
			k = s.call(c, opReset, 0, 200)
			if !exists {
				k = s.call(c, opReset, 0, 404)
			}
		case "register":
			k = s.call(c, opRegister, 0, 409)
			if !exists {
				k = s.call(c, opRegister, 0, 422) // the rest of the form is invalid on purpose
			}
			k.bytes += int64(len(name) % 3)
		default:
			k = s.login(c, name, false)[0]
			if !exists {
				k.bytes += 37 // "no such user" is longer
			}
		}
		if !s.hidden {
			k.login = name
		}
		c.do(k)
		if exists && !c.over {
			c.g.truth.knows(name)
		}
	}
}

func probePath(c *client) {
	t := newAttacker(c)
	for t.step() {
		k := t.target()
		path := wordlistPath(k, t.a.Variant == "guesses")
		request := c.w.site.miss("GET", path)
		switch u := unit(hash2(c.w.seed^c.g.key, uint64(k))); {
		case u < t.a.Success:
			request.status, request.bytes = 200, 300+k%1000
		case u < t.a.Success+.03:
			request.status, request.bytes = 403, 146
		}
		c.do(request)
		if request.status == 200 && request.bytes < 1300 && !c.over {
			c.g.truth.got(path)
		}
	}
}

// try makes one login attempt; after one that works the account is looked at.
func (t *attacker) try(name string, works bool) {
	if t.chance(t.a.Canary) {
		own := t.g.account + t.a.Sources*max(1, t.a.Evade.Accounts) + int(t.r.Int64N(canaries))
		name = t.w.site.accountName(own)
		t.login(name, true)
		t.g.truth.name("account:", name)
		t.forget()
		return
	}
	t.login(name, works)
	if works && !t.over {
		t.g.truth.entered(name)
		t.quietly(func() { t.get(opMe, 0) })
	}
	t.forget()
}

// forget ends the session at hand.
func (c *client) forget() { c.id.user, c.id.session = "", "" }

func bruteforce(c *client) {
	t := newAttacker(c)
	name := c.w.site.accountName(int(hash2(c.w.seed^c.g.key, 3) % uint64(c.w.site.accounts)))
	c.g.truth.name("account:", name)
	lucky := unit(hash2(c.w.seed^c.g.key, 4)) < t.a.Success
	for t.step() {
		t.try(name, lucky && t.first+t.j == t.total)
	}
}

// knownNames is the share of a combo list that has an account at all.
const knownNames = .4

func stuffing(c *client) {
	t := newAttacker(c)
	for t.step() {
		k := t.target()
		name, exists := t.candidate(k, max(knownNames, t.a.Success))
		t.try(name, exists && unit(hash2(c.w.seed^c.g.key, uint64(k)<<1|1)) < t.a.Success/max(knownNames, t.a.Success))
	}
}

// spraying goes over the same list in each round, with a pause between.
func spraying(c *client) {
	t := newAttacker(c)
	rounds := int64(t.a.Rounds)
	list := max(1, t.total/rounds)
	began := c.now
	round := int64(0)
	size := max(1, t.n/rounds)
	for t.step() {
		if r := (t.j - 1) / size; r != round && r < rounds {
			round = r
			t.at = max(t.at, began+r*t.a.Every.Microseconds())
			c.until(t.at)
			if c.over || t.g.len > 0 && t.at >= t.start+t.g.len {
				return
			}
		}
		k := (t.first/rounds + (t.j-1)%size) % list
		name, _ := t.candidate(k, 1)
		t.try(name, unit(hash2(c.w.seed^c.g.key, uint64(t.first+t.j)<<1|1)) < t.a.Success)
	}
}

// owned returns what the honest owner number v of what this attack steals has.
func (w *world) owned(a *Attack, v int) (session, key string) {
	h := w.seed ^ hashName(a.name()+"-owner")
	return hex16(hash2(h, uint64(v))), "part_" + hex16(hash2(h, uint64(v)+77))
}

// victim is a person who comes every two hours.
func victim(c *client) {
	p := newPerson(c)
	c.arrive(&p)
	session, _ := c.w.owned(c.g.attack, c.index)
	c.id.user, c.id.session, c.id.sessionSince = c.w.site.accountName(c.account), session, c.w.end
	c.g.truth.saw(&c.id)
	for !c.over {
		c.wait(7200 * c.r.ExpFloat64())
		c.browse(&p, c.about(5))
		c.id.user = c.w.site.accountName(c.account) // a logout is followed by a login
	}
}

func takeover(c *client) {
	t := newAttacker(c)
	s := &c.w.site
	for v := c.index; v < t.a.Requests && !c.over; v += t.a.Sources {
		name := s.accountName(c.g.account + v)
		session, _ := c.w.owned(t.a, v)
		t.appear(0)
		if t.a.Variant == "stuffed" {
			for range 20 {
				c.wait(1 / t.a.Rate)
				miss, _ := t.candidate(c.r.Int64N(1<<30), knownNames)
				c.forget()
				c.login(miss, false)
			}
			c.wait(1 / t.a.Rate)
			c.login(name, true)
			c.forget()
			c.g.truth.entered(name)
			c.wait(300 + 600*c.r.Float64())
		}
		// Another place and another stack.
		id := c.w.place(netHome, c.g.addr+uint64(t.a.Sources*max(1, t.a.Evade.Addresses)+v%8))
		c.id.ip, c.id.asn, c.id.country = id.ip, id.asn, id.country
		c.id.wear(browsers[(v*5+6)%len(browsers)])
		if t.a.Variant == "stuffed" {
			c.login(name, true)
		} else {
			c.id.user, c.id.session, c.id.sessionSince = name, session, c.w.end
			c.g.truth.entered(name)
		}
		c.g.truth.saw(&c.id)
		for _, o := range [...]op{opMe, opMine, opEmail, opPayout, opPassword} {
			c.think(12)
			status := 200
			if o >= opEmail {
				status = 204
			}
			c.get2(o, 1, status)
		}
		c.forget()
		c.wait(1200 * c.r.Float64())
	}
}

func scrape(c *client) {
	t := newAttacker(c)
	s := &c.w.site
	items := int64(s.items)
	for t.step() {
		k := t.target()
		item := s.itemAt(k % items)
		switch t.a.Variant {
		case "cursor":
			c.get(opCursor, k)
			continue
		case "human":
			if c.chance(.3) {
				t.quietly(func() { c.get(opList, k/pageItems); c.think(5) })
			}
			c.page(opItem, item, true, s.kind == "grpc")
		default:
			if k%pageItems == 0 {
				c.get(opList, k/pageItems)
			}
			c.get(opItem, item)
		}
		c.g.truth.got(c.asked())
	}
}

// keyOwner is a server that asks the same three things all day.
func keyOwner(c *client) {
	_, key := c.w.owned(c.g.attack, c.index)
	id := c.w.place(netHosting, c.g.addr)
	id.wear(stack{"partner-app/2.3", ja4Java, 1})
	id.key = key
	c.adopt(id)
	c.every(90*time.Second, .1, func(n int64) {
		c.get([...]op{opUpdates, opItem, opItem}[n%3], n%30)
	})
}

func keyMisuse(c *client) {
	t := newAttacker(c)
	s := &c.w.site
	_, c.id.key = c.w.owned(t.a, 0)
	c.g.truth.saw(&c.id)
	works := t.a.Success
	if t.a.Variant == "scopes" {
		works = min(works, .5)
	}
	for t.step() {
		o := [...]op{opMe, opMine, opObject, opObject, opExport, opList, opAdminList, opPayout}[c.r.IntN(8)]
		n := int64(1 + c.r.IntN(40))
		if o == opObject {
			n = c.r.Int64N(s.objects())
		}
		status := 200
		if !c.chance(works) {
			status = 403
		}
		if c.get2(o, n, status) == 200 && o == opObject && !c.over {
			c.g.truth.got(c.asked())
		}
	}
}

func dataExposure(c *client) {
	t := newAttacker(c)
	s := &c.w.site
	t.enter()
	for t.step() {
		k := t.target()
		var request call
		if t.a.Variant == "export" {
			request = s.call(c, opExport, k, 200)
			request.bytes = int64(3e6 * sizeFactor(c.r.Uint64()))
		} else {
			request = s.call(c, opBulk, [...]int64{100_000, 50_000, 10_000}[c.r.IntN(3)]+k%(1<<40)*maxLimit, 200)
			request.bytes = int64(2e7 * sizeFactor(c.r.Uint64()))
		}
		request.ms = 4000
		c.do(request)
		if !c.over {
			c.g.truth.got(c.asked())
		}
	}
}

func injectProbe(c *client) {
	t := newAttacker(c)
	s := &c.w.site
	for t.step() {
		k := t.target()
		payload := payloadOf(t.a.Variant, k)
		o := [...]op{opSearch, opList, opItem, opUpdates}[k%4]
		status := 400
		switch u := c.r.Float64(); {
		case u < t.a.Success:
			status = 500
		case o == opSearch || u < .5:
			status = 200
		case o == opItem:
			status = 404
		}
		c.do(s.rawCall(c, o, payload, status))
		if status == 500 && !c.over {
			c.g.truth.got(c.asked())
		}
	}
}

func flood(c *client) {
	t := newAttacker(c)
	o := opSearch
	if t.a.Variant == "home" {
		o = opHome
	}
	for t.step() {
		c.get(o, c.r.Int64N(1<<20))
	}
}
