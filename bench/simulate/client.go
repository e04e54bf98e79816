package simulate

import (
	"math"
	"math/rand/v2"
	"strconv"
	"time"
)

// identity is how a client looks from outside.
type identity struct {
	ip, country  string
	asn          uint32
	agent, ja4   string
	user, key    string
	session      string
	sessionSince int64 // µs; a mass logout ends older ones
}

// client is one actor at work: a coroutine that yields whenever it has made a
// request. now is its own clock in µs since the start.
type client struct {
	w       *world
	g       *group
	r       *rand.Rand
	index   int
	visit   int
	now     int64
	over    bool // nothing more is wanted: requests are dropped
	yield   func(struct{}) bool
	ev      Event
	object  string // that the last request's body asked for
	id      identity
	tenant  int
	account int // -1: none
	referer string
	attack  bool // requests count as attempts of the group's episode
	scratch []byte
}

// wait lets time pass.
func (c *client) wait(seconds float64) {
	c.now += int64(min(seconds, 1e9) * 1e6)
	if c.now >= c.w.end {
		c.over = true
	}
}

// until lets time pass up to now; it does not go back.
func (c *client) until(now int64) {
	c.now = max(c.now, now)
	if c.now >= c.w.end {
		c.over = true
	}
}

// think lets a human's time pass: log-normal around median seconds.
func (c *client) think(median float64) {
	c.wait(min(1200, median*math.Exp(c.r.NormFloat64())+.15))
}

func (c *client) chance(p float64) bool { return c.r.Float64() < p }

// about draws a whole number, geometric, of the mean given, at least 1.
func (c *client) about(mean float64) int {
	if mean <= 1 {
		return 1
	}
	n := 1 + int(math.Log(1-c.r.Float64())/math.Log(1-1/mean))
	return min(n, 400)
}

// adopt makes the client look like id and puts it on the group's label.
func (c *client) adopt(id identity) {
	c.id = id
	c.g.truth.saw(&id)
}

// do makes one request and returns the status that the application meant, which
// GraphQL and gRPC do not show.
func (c *client) do(call call) int {
	if c.over || c.now >= c.w.end {
		c.over = true
		return call.status
	}
	site := &c.w.site
	c.w.disturb(c, &call)
	meant := call.status
	site.wire(&call)
	e := &c.ev
	*e = Event{
		IP: c.id.ip, Method: call.method, Host: site.host, Path: call.path, Agent: c.id.agent, Referer: c.referer,
		Status: call.status, Bytes: call.bytes, User: c.id.user, APIKey: c.id.key, Session: c.id.session,
		LoginUser: call.login, JA4: c.id.ja4, Country: c.id.country, ASN: c.id.asn, Operation: call.operation,
		AppStatus: call.appStatus, AppFailed: call.appFailed, ContentBody: call.body, Actor: c.g.name,
	}
	if call.appFailed {
		e.AppCode = meant
	}
	c.object = call.object
	if site.noBodies {
		e.ContentBody = ""
	}
	switch {
	case call.anonymous:
		e.User, e.Session = "", ""
	case meant == 401 || call.refused:
		e.User = "" // the server accepted nobody
	}
	e.Duration = time.Duration(call.ms*1000*c.w.slow(bell(c.r.Uint64()))) * time.Microsecond
	if c.attack && !call.aside {
		c.g.truth.attempt(c.now)
	}
	if !c.yield(struct{}{}) {
		c.over = true
	}
	c.now += 1000 + e.Duration.Microseconds() // the answer has to arrive first
	return meant
}

// get makes a request of a kind that answers 200 on an ordinary day.
func (c *client) get(o op, n int64) int { return c.do(c.w.site.call(c, o, n, 200)) }

// session starts a new session id.
func (c *client) newSession() {
	c.id.session = hex16(c.r.Uint64())
	c.id.sessionSince = c.now
}

// login tries name at the login endpoint and returns whether it worked, which
// the caller decides.
func (c *client) login(name string, works bool) bool {
	if works {
		c.newSession()
	}
	for _, call := range c.w.site.login(c, name, works) {
		if works && !call.aside {
			c.id.user = name
		}
		c.do(call)
	}
	return works
}

// signIn logs the client's own account in the way people do: with typing errors.
func (c *client) signIn(typo float64) bool {
	if c.account < 0 {
		return false
	}
	name := c.w.site.accountName(c.account)
	c.id.user = ""
	for try := 0; c.chance(typo); try++ {
		typed := name
		if c.chance(.12) && len(name) > 4 { // the name itself
			k := 1 + c.r.IntN(3)
			typed = name[:k] + name[k+1:]
		}
		c.login(typed, false)
		c.think(6)
		if try == 4 || try == 2 && c.chance(.5) {
			c.do(c.w.site.call(c, opReset, int64(c.account), 200))
			c.think(70)
			break
		}
	}
	return c.login(name, true)
}

func hex16(v uint64) string {
	const digits = "0123456789abcdef"
	var b [16]byte
	for i := range b {
		b[i] = digits[v>>60]
		v <<= 4
	}
	return string(b[:])
}

func (c *client) num(prefix string, n int64, suffix string) string {
	b := append(c.scratch[:0], prefix...)
	b = strconv.AppendInt(b, n, 10)
	b = append(b, suffix...)
	c.scratch = b
	return string(b)
}
