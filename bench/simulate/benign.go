package simulate

import (
	"math/rand/v2"
	"time"
)

// profile is a kind of harmless client.
type profile struct {
	name    string
	about   string // what it is and what it looks like
	count   int
	crowd   bool    // count grows with the scenario's clients
	visits  float64 // a day and client; 0: each client runs once, from at on
	at      time.Duration
	length  time.Duration
	spare   int // addresses and accounts besides one for each client
	curve   func() curve
	script  func(c *client)
	prepare func(w *world, g *group)
}

// profiles is the list of them.
func profiles() []profile {
	return []profile{
		{name: "people", about: "visitors at home and on the road: list to detail, own orders, typing errors, dead links", count: 2000, crowd: true, visits: 1.3, curve: homeCurve, script: people},
		{name: "office-nat", about: "count employees behind one address, each with an account and a browser of his own", count: 500, visits: .8, curve: officeCurve, script: officeNAT},
		{name: "mobile-cgnat", about: "count phones behind eight addresses of a mobile operator; the address changes with each visit", count: 400, crowd: true, visits: .6, curve: homeCurve, script: mobileCGNAT, spare: 8},
		{name: "private-relay", about: "count people behind a privacy relay: a hosting network, another address for each few requests", count: 100, crowd: true, visits: .7, curve: homeCurve, script: privateRelay, spare: 96},
		{name: "admin", about: "administrators who page through everybody's orders from one address", count: 3, visits: 6, curve: officeCurve, script: admin},
		{name: "support", about: "support agents who open the orders of whoever calls, with mistyped numbers", count: 6, visits: 25, curve: officeCurve, script: support},
		{name: "partner-sync", about: "a partner's program: every 15 minutes what has changed, with a key, item after item", count: 2, curve: flatCurve, script: partnerSync},
		{name: "batch", about: "month-end batch: exports, then 2,000 orders in order of number, with a service key", count: 1, at: 3 * time.Hour, curve: flatCurve, script: batch},
		{name: "uptime", about: "a monitoring service's probes from six places, also on a page that is gone", count: 6, curve: flatCurve, script: uptime},
		{name: "load-balancer", about: "health checks of load balancers from internal addresses", count: 2, curve: flatCurve, script: loadBalancer},
		{name: "crawler", about: "a verified search engine: robots.txt, the whole catalogue, addresses that no longer exist", count: 4, curve: flatCurve, script: crawler},
		{name: "unfurlers", about: "link previews of chat programs: one page each, from many addresses", count: 60, crowd: true, visits: 1, curve: homeCurve, script: unfurler},
		{name: "backups", about: "a nightly download in ranges, 206 after 206, with a key", count: 1, at: 2 * time.Hour, curve: flatCurve, script: backups},
		{name: "spa-polling", about: "open tabs that ask for news every 15 seconds for an hour or more", count: 20, crowd: true, visits: 1, curve: officeCurve, script: spaPolling},
		{name: "offline-retry", about: "apps that come back online and send what they queued at once, some of it twice", count: 80, crowd: true, visits: 1, curve: homeCurve, script: offlineRetry},
		{name: "refresh-storm", about: "an app's bug: all installations refresh their tokens in a loop for minutes", count: 60, crowd: true, visits: 1, at: 11 * time.Hour, length: 20 * time.Minute, curve: flatCurve, script: refreshStorm},
		{name: "token-expiry", about: "programs whose token runs out every hour: 401, a new token, the request again", count: 10, curve: flatCurve, script: tokenExpiry},
		{name: "challenge", about: "Basic or Digest clients: every request is refused once before it is sent with credentials", count: 15, crowd: true, visits: 3, curve: officeCurve, script: challenge},
		{name: "stuck-client", about: "a program with an old password that tries to log in every ten minutes for weeks", count: 3, curve: flatCurve, script: stuckClient},
		{name: "key-fleet", about: "one key on count servers in several hosting networks", count: 1000, crowd: true, visits: 6, curve: flatCurve, script: keyFleet},
		{name: "iot", about: "devices that report every two hours and ask for firmware that mostly is not there", count: 300, crowd: true, visits: 12, curve: flatCurve, script: iot},
		{name: "flash-crowd", about: "new visitors who all come for one item within minutes, from a link elsewhere", count: 600, crowd: true, visits: 1, at: 19 * time.Hour, length: 25 * time.Minute, curve: flatCurve, script: flashCrowd},
		{name: "sale-day", about: "buyers in a rush: logins with more errors, search, checkout, sold-out answers", count: 300, crowd: true, visits: 1, at: 10 * time.Hour, length: 6 * time.Hour, curve: homeCurve, script: saleDay},
		{name: "load-test", about: "an announced load test: one address, a fixed pace, a few endpoints", count: 1, at: 5 * time.Hour, length: time.Minute, curve: flatCurve, script: loadTest},
		{name: "bad-deploy", about: "a release that breaks one endpoint for everybody; count people have the app open", count: 100, crowd: true, visits: 1, at: 14 * time.Hour, length: 40 * time.Minute, curve: flatCurve, script: badDeploy, prepare: breakEndpoint},
		{name: "broken-link", about: "a release after which no item is found by anybody, before it and after it all is well; count people go on looking", count: 100, crowd: true, visits: 1, at: 13 * time.Hour, length: 2 * time.Hour, curve: flatCurve, script: brokenLink, prepare: breakItems},
		{name: "mass-logout", about: "all sessions end at once; count people log in again within minutes, with errors", count: 150, crowd: true, visits: 1, at: 16 * time.Hour, length: 15 * time.Minute, curve: flatCurve, script: massLogout, prepare: endSessions},
		{name: "price-watch", about: "a partner that reads the same 500 items every six hours, with a key, at an even pace", count: 1, curve: flatCurve, script: priceWatch},
	}
}

func profileNamed(name string) (profile, bool) {
	for _, p := range profiles() {
		if p.name == name {
			return p, true
		}
	}
	return profile{}, false
}

func profileNames() []string {
	var names []string
	for _, p := range profiles() {
		names = append(names, p.name)
	}
	return names
}

// person is what stays the same from visit to visit.
type person struct {
	id    identity
	typo  float64
	loyal bool // stays logged in
	r     *rand.Rand
}

// newPerson draws client index of the group: account, browser, habits, and an
// address at home.
func newPerson(c *client) person {
	r := c.w.stream(c.g, c.index, 0, 4)
	c.account = c.g.account + c.index
	c.tenant = c.account % tenantCount
	n := c.g.addr + uint64(c.index)
	p := person{typo: betaDraw(r, 1.3, 9), loyal: r.Float64() < .65, r: r}
	if r.Float64() < .22 {
		p.id = c.w.place6(n, hash2(n, uint64(c.now/86400e6))) // privacy extensions: a new one each day
	} else {
		p.id = c.w.place(netHome, n)
	}
	p.id.wear(personStack(c.w, r))
	return p
}

// personStack is what somebody uses: a browser, on gRPC an app.
func personStack(w *world, r *rand.Rand) stack {
	if w.site.kind == "grpc" {
		return drawStack(r, []stack{
			{"grpc-java-okhttp/1.76.0", ja4OkHTTP, 5}, {"grpc-swift-nio/1.26.1", ja4Safari, 4}, {"grpc-node-js/1.14.0", ja4Node, 1},
		})
	}
	return drawStack(r, browsers[:])
}

// arrive puts the person at the site; remembered sessions are as old as the
// scenario.
func (c *client) arrive(p *person) {
	id := p.id
	c.adopt(id)
	if p.loyal && c.account >= 0 {
		c.id.user = c.w.site.accountName(c.account)
		c.id.session = hex16(hash2(c.w.seed^c.g.key, uint64(c.index)))
		c.id.sessionSince = -1
		c.g.truth.saw(&c.id)
	} else {
		c.newSession()
	}
}

// goOut takes the client to one of the mobile exits that everybody shares; they
// have a label of their own.
func (c *client) goOut() {
	at := c.w.place(netMobile, c.r.Uint64N(240))
	c.id.ip, c.id.asn, c.id.country = at.ip, at.asn, at.country
	c.w.exits.truth.name("ip:", at.ip)
}

// people is one visit.
func people(c *client) {
	p := newPerson(c)
	if c.w.site.kind == "public" && c.index%5 < 2 {
		developer(c, &p)
		return
	}
	c.arrive(&p)
	if c.chance(.25) { // on the road
		c.goOut()
	}
	c.browse(&p, c.about(9))
}

// developer is somebody's program on a public API: a few favourite items, with a
// key, now and then.
func developer(c *client, p *person) {
	p.id.wear(tools[p.r.IntN(len(tools))])
	p.id.key = c.apiKey("dev", c.index)
	c.account = -1
	c.adopt(p.id)
	first := c.w.site.rank(p.r.Float64())
	for range c.about(12) {
		n := (first + int64(c.r.IntN(5))*17) % int64(c.w.site.items)
		if c.get(opItem, n) >= 500 {
			c.wait(10)
		}
		if c.chance(.1) {
			c.get(opUpdates, c.now/3_600_000_000)
		}
		c.wait(1 + 4*c.r.Float64())
	}
}

// apiKey is the n-th key of the group, with a prefix as keys have.
func (c *client) apiKey(prefix string, n int) string {
	return prefix + "_" + hex16(hash2(c.w.seed^c.g.key, uint64(n)+77))
}

// browse is one person's visit of about so many pages.
func (c *client) browse(p *person, pages int) {
	s := &c.w.site
	app := s.kind == "grpc"
	returning := c.visit > 0 || c.chance(.6)
	c.page(opHome, 0, returning, app)
	if c.chance(.35) && c.id.user == "" {
		c.think(8)
		c.signIn(p.typo)
		c.g.truth.name("account:", c.id.user)
	}
	list := int64(0)
	for i := 0; i < pages && !c.over; i++ {
		c.think(9)
		switch u := c.r.Float64(); {
		case u < .22:
			c.get(opList, list)
			if list++; c.chance(.5) {
				list = int64(c.r.IntN(6)) * 7
			}
		case u < .62:
			c.page(opItem, s.rank(c.r.Float64()), returning, app)
			for c.chance(.2) { // the neighbours in the list
				c.think(7)
				c.get(opItem, s.rank(c.r.Float64()))
			}
		case u < .72:
			c.get(opSearch, c.r.Int64N(24))
		case u < .74:
			c.deadLink(app)
		case u < .80 || c.id.user == "":
			c.get(opAdd, 0)
		default:
			c.mine(p)
		}
	}
	if c.id.user != "" && c.chance(.12) {
		c.buy()
	}
	if c.id.user != "" && c.chance(.01) {
		c.settings()
	}
	if c.id.user != "" && c.chance(.04) {
		c.get(opLogout, 0)
	}
}

// page is one page with what a browser fetches for it.
func (c *client) page(o op, n int64, returning, app bool) {
	c.get(o, n)
	if app {
		return
	}
	c.referer = "https://" + c.w.site.host + "/"
	for k := range int64(c.r.IntN(3)) {
		asset := c.w.site.call(c, opAsset, k, 200)
		if returning && c.chance(.7) {
			asset.status = 304
			c.w.site.answer(&asset)
		}
		asset.app, asset.aside = false, true
		c.do(asset)
	}
	if o == opItem && c.chance(.4) {
		media := c.w.site.call(c, opMedia, n, 200)
		media.aside = true
		c.do(media)
	}
}

// deadLink is a bookmark or a link that leads nowhere.
func (c *client) deadLink(app bool) {
	if app {
		k := c.w.site.call(c, opItem, c.r.Int64N(int64(c.w.site.items)), 404)
		c.do(k)
		return
	}
	paths := [...]string{"/favicon.ico", "/apple-touch-icon.png", "/blog/summer-2024", "/index.html", "/products/old-", "/help/contact", "/.well-known/security.txt"}
	k := c.r.IntN(len(paths))
	path := paths[k]
	if k == 4 {
		path = c.num(path, c.r.Int64N(500), "")
	}
	c.do(c.w.site.miss("GET", path))
}

// mine looks at objects of one's own: the list, then some. A logged-out session
// is entered again.
func (c *client) mine(p *person) {
	if c.get(opMine, 1) == 401 {
		c.think(5)
		c.signIn(p.typo)
		c.get(opMine, 1)
	}
	for range c.about(1.8) {
		c.think(6)
		o := c.w.site.object(c.account, c.r.IntN(ownedObjects))
		status := 200
		if c.w.site.gone(o) {
			status = 404
		}
		c.get2(opObject, o, status)
	}
}

func (c *client) get2(o op, n int64, status int) int {
	return c.do(c.w.site.call(c, o, n, status))
}

func (c *client) buy() {
	c.get(opAdd, 0)
	c.think(20)
	c.get2(opCreate, 0, 201)
	c.think(4)
	c.get(opObject, c.w.site.object(c.account, ownedObjects-1))
}

func (c *client) settings() {
	c.get(opMe, 0)
	c.think(25)
	c.get2([...]op{opEmail, opPayout, opPassword}[c.r.IntN(3)], 0, 204)
}

func officeNAT(c *client) {
	p := newPerson(c)
	at := c.w.place(netOffice, c.g.addr)
	p.id.ip, p.id.asn, p.id.country = at.ip, at.asn, at.country
	c.arrive(&p)
	c.browse(&p, c.about(7))
}

func mobileCGNAT(c *client) {
	p := newPerson(c)
	exits := uint64(8)
	at := c.w.place(netMobile, c.g.addr+uint64(c.g.count)+c.r.Uint64N(exits))
	p.id.ip, p.id.asn, p.id.country = at.ip, at.asn, at.country
	c.arrive(&p)
	c.browse(&p, c.about(8))
}

func privateRelay(c *client) {
	p := newPerson(c)
	if c.w.site.kind != "grpc" {
		p.id.wear(browsers[[...]int{2, 4}[c.index%2]])
	}
	hop := func() identity { return c.w.place(netRelay, c.g.addr+uint64(c.g.count)+c.r.Uint64N(96)) }
	at := hop()
	p.id.ip, p.id.asn, p.id.country = at.ip, at.asn, at.country
	c.arrive(&p)
	for range c.about(3) {
		c.browse(&p, c.about(3))
		at = hop()
		c.id.ip, c.id.asn = at.ip, at.asn
		c.g.truth.saw(&c.id)
		c.think(20)
	}
}

// employee has a fixed place in the office and stays logged in.
func employee(c *client) {
	p := newPerson(c)
	at := c.w.place(netOffice, c.g.addr+uint64(c.index))
	p.id.ip, p.id.asn, p.id.country = at.ip, at.asn, at.country
	p.loyal = true
	c.arrive(&p)
}

func admin(c *client) {
	employee(c)
	from := c.r.Int64N(40)
	for k := range int64(c.about(12)) {
		c.get(opAdminList, from+k)
		c.think(6)
		for range c.about(2.5) {
			victim := c.r.IntN(c.w.site.accounts)
			c.get(opAdminUser, int64(victim))
			c.think(8)
			if c.chance(.4) {
				c.get(opObject, c.w.site.object(victim, c.r.IntN(ownedObjects)))
				c.think(5)
			}
		}
	}
}

func support(c *client) {
	employee(c)
	caller := c.r.IntN(c.w.site.accounts)
	c.get(opSearch, c.r.Int64N(24))
	c.think(10)
	if c.chance(.12) { // misheard
		c.get2(opObject, c.r.Int64N(c.w.site.objects()), 404)
		c.think(15)
	}
	c.get(opAdminUser, int64(caller))
	for range c.about(2) {
		c.think(12)
		c.get(opObject, c.w.site.object(caller, c.r.IntN(ownedObjects)))
	}
	c.think(60)
}

// machine is a program at a fixed place.
func (c *client) machine(kind netKind, s stack, keyed string) {
	id := c.w.place(kind, c.g.addr+uint64(c.index))
	id.wear(s)
	if keyed != "" {
		id.key = c.apiKey(keyed, c.index)
	}
	c.adopt(id)
}

// every calls f each period, with a little jitter, until the end.
func (c *client) every(period time.Duration, jitter float64, f func(n int64)) {
	at := c.now + int64(c.r.Float64()*float64(period.Microseconds()))
	for n := int64(0); ; n++ {
		c.until(at + int64(jitter*c.r.Float64()*float64(period.Microseconds())))
		if c.over {
			return
		}
		f(n)
		at += max(1, int64(min(1e15, float64(period.Microseconds())/c.g.factor)))
	}
}

func partnerSync(c *client) {
	c.machine(netHosting, stack{"acme-sync/4.2 (+https://acme.example)", ja4Java, 1}, "acme")
	c.every(15*time.Minute, .01, func(n int64) {
		c.get(opUpdates, c.now/1_000_000)
		first := n * 9 % int64(c.w.site.items)
		for k := range int64(c.about(7)) {
			c.get(opItem, c.w.site.itemAt((first+k)%int64(c.w.site.items))) // by id
			c.wait(.3)
		}
		if c.chance(.05) {
			c.get2(opUpdates, n, 503)
		}
	})
}

func batch(c *client) {
	c.machine(netHosting, stack{"month-end/2.1 java/21", ja4Java, 1}, "svc")
	for p := range int64(40) {
		c.get(opExport, p)
		c.wait(2)
	}
	total := min(c.w.site.objects(), int64(2000*c.g.factor))
	for k := range total {
		o := k
		if c.w.site.kind != "saas" {
			o = c.w.site.objectAt(firstObject + k)
		}
		status := 200
		if c.w.site.gone(o) {
			status = 404
		}
		c.get2(opObject, o, status)
		c.wait(.15 + .1*c.r.Float64())
	}
}

func uptime(c *client) {
	c.machine(netHosting, stack{"Mozilla/5.0 (compatible; UptimeCheck/2.0; https://uptime.example)", ja4Go, 1}, "")
	c.every(2*time.Minute, .02, func(n int64) {
		switch {
		case c.index == 5: // the page moved and nobody told the monitor
			c.do(c.w.site.miss("HEAD", "/status.html"))
		case n%2 == 0:
			c.get(opHome, 0)
		default:
			c.get(opHealth, 0)
		}
	})
}

func loadBalancer(c *client) {
	c.adopt(identity{ip: c.num("10.0.0.", int64(c.index%250)+2, ""), agent: "ELB-HealthChecker/2.0"})
	c.every(20*time.Second, .01, func(int64) { c.get(opHealth, 0) })
}

// crawler has addresses of the engine's published range, which is how it is
// verified.
func crawler(c *client) {
	c.adopt(identity{
		ip: c.num("66.249.66.", int64(c.index%250)+1, ""), asn: 15169, country: "US", ja4: ja4Chrome,
		agent: "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
	})
	n := int64(c.index) * 1009
	c.every(150*time.Second, .9, func(int64) {
		switch u := c.r.Float64(); {
		case u < .01:
			k := c.w.site.miss("GET", "/robots.txt")
			k.status, k.bytes = 200, 120
			c.do(k)
		case u < .06:
			c.do(c.w.site.miss("GET", c.num("/products/old-", c.r.Int64N(3000), "")))
		case u < .16:
			k := c.w.site.miss("GET", c.num("/sitemap/", c.r.Int64N(int64(c.w.site.items/pageItems)+1), ".xml"))
			k.status, k.bytes = 200, 31_000
			c.do(k)
		default:
			n = (n + 1) % int64(c.w.site.items)
			c.get(opPage, int64(permute(uint64(n), uint64(c.w.site.items), 0xb07)))
		}
	})
}

func unfurler(c *client) {
	agents := [...]string{
		"Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)", "facebookexternalhit/1.1 (+http://www.facebook.com/externalhit_uatext.php)",
		"Twitterbot/1.0", "WhatsApp/2.23.20.0", "TelegramBot (like TwitterBot)", "Mozilla/5.0 (compatible; Discordbot/2.0; +https://discordapp.com)",
	}
	c.machine(netHosting, stack{agents[c.index%len(agents)], ja4Go, 1}, "")
	n := c.w.site.rank(c.r.Float64())
	head := c.w.site.call(c, opPage, n, 200)
	head.method, head.bytes = "HEAD", 0
	c.do(head)
	c.get(opPage, n)
	if c.chance(.6) {
		c.get(opMedia, n)
	}
	if c.chance(.05) {
		c.deadLink(false)
	}
}

func backups(c *client) {
	c.machine(netHosting, stack{"restic/0.18.1", ja4Go, 1}, "bak")
	for day := int64(0); !c.over; day++ {
		for range 200 {
			k := c.w.site.call(c, opBackup, day, 206)
			k.bytes, k.app = 8<<20, false
			c.do(k)
			c.wait(.2)
		}
		c.until(c.g.at + (day+1)*86400e6)
	}
}

func spaPolling(c *client) {
	p := newPerson(c)
	p.loyal = true
	c.arrive(&p)
	c.page(opHome, 0, true, c.w.site.kind == "grpc")
	since := c.now / 1_000_000
	for end := c.now + int64((.5+c.r.Float64())*3600e6); c.now < end && !c.over; {
		status := 304
		if c.chance(.04) {
			status, since = 200, c.now/1_000_000
		}
		if c.get2(opPoll, since, status) == 401 {
			c.signIn(p.typo)
		}
		c.wait(15 + .4*c.r.Float64())
	}
}

func offlineRetry(c *client) {
	p := newPerson(c)
	p.loyal = true
	p.id.wear(stack{"ShopApp/7.4 (Android 15; okhttp/4.12.0)", ja4OkHTTP, 1})
	c.arrive(&p)
	c.goOut()
	for range 10 + c.r.IntN(30) {
		status := 202
		switch u := c.r.Float64(); {
		case u < .15:
			status = 409 // it was sent already
		case u < .18:
			status = 503
		}
		c.get2(opWrite, 0, status)
		c.wait(.03 * c.r.Float64())
	}
	c.get(opMine, 1)
}

func (c *client) token(status int) int {
	k := c.w.site.call(c, opToken, 0, status)
	k.anonymous, k.aside = true, true
	return c.do(k)
}

func refreshStorm(c *client) {
	p := newPerson(c)
	p.loyal = true
	p.id.wear(stack{"ShopApp/7.5 (iPhone; iOS 18.6)", ja4Safari, 1})
	c.arrive(&p)
	for range c.about(30) {
		c.token(200)
		c.wait(.2 + .8*c.r.Float64())
		if c.get2(opMe, 0, 401) != 401 {
			break
		}
		c.wait(.1)
	}
	c.token(200)
	c.get(opMe, 0)
}

func tokenExpiry(c *client) {
	c.machine(netHosting, tools[c.index%len(tools)], "app")
	first := c.w.site.rank(c.r.Float64())
	expires := c.now
	c.every(3*time.Minute, .2, func(n int64) {
		item := (first + n%7) % int64(c.w.site.items)
		if c.now >= expires {
			key := c.id.key
			c.get2(opItem, item, 401)
			c.id.key = ""
			c.token(200)
			c.id.key = key
			expires = c.now + 3600e6
		}
		c.get(opItem, item)
	})
}

func challenge(c *client) {
	p := newPerson(c)
	p.id.wear(stack{"Microsoft Office/16.0 (Windows NT 10.0; Excel 16.0)", ja4Java, 1})
	name := c.w.site.accountName(c.account)
	c.adopt(p.id)
	c.g.truth.name("account:", name)
	for range c.about(15) {
		o, n := opMine, int64(1)
		if c.chance(.7) {
			o, n = opObject, c.w.site.object(c.account, c.r.IntN(ownedObjects))
		}
		c.id.user = ""
		c.get2(o, n, 401)
		c.id.user = name
		c.get(o, n)
		c.think(4)
	}
}

func stuckClient(c *client) {
	p := newPerson(c)
	p.id.wear(stack{"Thunderbird-Sync/1.4", ja4Firefox, 1})
	c.adopt(p.id)
	name := c.w.site.accountName(c.account)
	c.g.truth.name("account:", name)
	c.every(10*time.Minute, .05, func(int64) { c.login(name, false) })
}

func keyFleet(c *client) {
	id := c.w.place(netHosting, c.g.addr+uint64(c.index))
	id.wear(stack{"acme-agent/3.9.1", ja4Go, 1})
	id.key = c.apiKey("fleet", 0) // all have the same
	c.adopt(id)
	c.get2(opWrite, 0, 202)
	if c.chance(.3) {
		c.get(opItem, int64(c.index%40))
	}
}

func iot(c *client) {
	p := newPerson(c)
	p.id.wear(stack{"sensor-fw/1.8.3 lwIP", ja4Curl, 1})
	p.id.key = c.apiKey("dev", c.index)
	c.account = -1
	c.adopt(p.id)
	c.get2(opWrite, 0, 202)
	if c.visit%12 == 0 {
		k := c.w.site.miss("GET", "/firmware/1.8.4/manifest.json")
		c.do(k)
	}
}

func flashCrowd(c *client) {
	p := newPerson(c)
	p.loyal = false
	c.arrive(&p)
	c.account = -1
	c.referer = "https://news.example/item?id=4711"
	app := c.w.site.kind == "grpc"
	c.page(opItem, 3, false, app)
	for range c.about(1.6) {
		c.think(12)
		c.page(opItem, c.w.site.rank(c.r.Float64()), true, app)
	}
}

func saleDay(c *client) {
	p := newPerson(c)
	p.loyal = c.chance(.3)
	c.arrive(&p)
	c.page(opHome, 0, true, c.w.site.kind == "grpc")
	if c.id.user == "" {
		c.think(4)
		c.signIn(min(.6, p.typo*2.5))
		c.g.truth.name("account:", c.id.user)
	}
	for range c.about(8) {
		c.think(3)
		c.get(opItem, c.r.Int64N(40))
		if c.chance(.3) {
			c.get(opSearch, c.r.Int64N(24))
		}
		if c.chance(.3) {
			c.get2(opAdd, 0, [...]int{200, 200, 409}[c.r.IntN(3)])
		}
	}
	c.buy()
}

func loadTest(c *client) {
	c.machine(netHosting, stack{"k6/1.3.0 (https://k6.io/)", ja4Go, 1}, "loadtest")
	for end := c.now + c.g.len; c.now < end && !c.over; {
		c.get([...]op{opHome, opList, opItem, opSearch}[c.r.IntN(4)], c.r.Int64N(20))
		c.now -= c.ev.Duration.Microseconds() // 50 a second, whatever the answers take
		c.wait(.019 / c.g.factor)
	}
}

func breakEndpoint(w *world, g *group) {
	w.deploys = append(w.deploys, window{g.at, g.at + g.len, opMine, 500}, window{g.at, g.at + g.len, opMedia, 404})
}

func badDeploy(c *client) {
	p := newPerson(c)
	p.loyal = true
	c.arrive(&p)
	c.page(opHome, 0, true, c.w.site.kind == "grpc")
	for range c.about(5) {
		c.think(6)
		for c.get(opMine, 1) >= 500 && c.chance(.6) { // reload
			c.think(3)
		}
		n := c.w.site.rank(c.r.Float64())
		c.get(opItem, n)
		c.get(opMedia, n)
	}
}

// breakItems breaks the items for the second half of the time.
func breakItems(w *world, g *group) {
	w.deploys = append(w.deploys, window{g.at + g.len/2, g.at + g.len, opItem, 404})
}

func brokenLink(c *client) {
	p := newPerson(c)
	p.loyal = true
	c.arrive(&p)
	c.page(opHome, 0, true, c.w.site.kind == "grpc")
	for range c.about(30) {
		c.think(20)
		c.get(opItem, c.w.site.rank(c.r.Float64()))
	}
}

func endSessions(w *world, g *group) { w.logouts = append(w.logouts, g.at) }

func massLogout(c *client) {
	p := newPerson(c)
	p.loyal = true
	c.arrive(&p)
	c.get(opMe, 0) // 401
	c.get(opMine, 1)
	c.think(6)
	c.signIn(min(.5, p.typo*2))
	c.get(opMe, 0)
	c.browse(&p, c.about(3))
}

func priceWatch(c *client) {
	c.machine(netHosting, stack{"pricewatch/1.2 (contract 8841)", ja4Python, 1}, "pw")
	for !c.over {
		from := c.now
		for k := range int64(min(500, c.w.site.items)) {
			c.get(opItem, k)
			c.wait(1.5 + .1*c.r.Float64())
		}
		c.until(from + 6*3600e6)
	}
}
