package main

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"weir/detectors"
	"weir/pipeline"
)

// loses says what a gap in a log takes from a detector.
type loses string

const (
	losesAll       loses = "all"       // it finds nothing
	losesSome      loses = "some"      // some attacks are not found
	losesTime      loses = "time"      // it finds them, after more requests
	losesPrecision loses = "precision" // it finds them, and harmless clients with them
)

// blindCost is what a gap costs one detector.
type blindCost struct {
	detector string
	loses    loses
	attacks  string // those that are not found; "" all
}

// blindGap is something that the log does not show.
type blindGap struct {
	endpoint string // "" for all
	cause    string // the field that is missing
	why, fix string
	requests int64 // without it
	of       int64
	unless   string // it may be no gap: then this is so
	costs    []blindCost
}

// blindSpot is a line of the full report: at this endpoint this detector does
// not see this.
type blindSpot struct {
	Endpoint string `json:"endpoint"` // method and path; "" for all
	Detector string `json:"detector"`
	Loses    loses  `json:"loses"`
	Attacks  string `json:"attacks"` // that are not found; "" all
	Cause    string `json:"cause"`
	Why      string `json:"why"`
	Fix      string `json:"fix"`
	Unless   string `json:"unless"`
	Requests int64  `json:"requests"`
	Of       int64  `json:"of"`
}

// blindReport is the report as JSON.
type blindReport struct {
	Schema   string      `json:"schema"`
	Requests int64       `json:"requests"`
	Since    *time.Time  `json:"since"` // event time; null without requests
	Until    *time.Time  `json:"until"`
	Data     []blindSpot `json:"data"`
}

const blindSchema = "weir.blindspots/1"

// minBlindQueries is how many requests without any query string say that the log
// leaves queries out.
const minBlindQueries = 500

// report is everything that is not seen, the worst first.
func (b *blindSpots) report() blindReport {
	r := blindReport{Schema: blindSchema, Requests: b.requests, Data: []blindSpot{}}
	if b.requests > 0 {
		since, until := b.since.Std(), b.until.Std()
		r.Since, r.Until = &since, &until
	}
	for _, g := range b.gaps() {
		for _, c := range g.costs {
			r.Data = append(r.Data, blindSpot{
				Endpoint: g.endpoint, Detector: c.detector, Loses: c.loses, Attacks: c.attacks,
				Cause: g.cause, Why: g.why, Fix: g.fix, Unless: g.unless, Requests: g.requests, Of: g.of,
			})
		}
	}
	return r
}

// gaps lists what the log does not show: what concerns all endpoints, then one
// endpoint each.
func (b *blindSpots) gaps() []blindGap {
	if b.requests < minBlindRequests {
		return nil
	}
	return slices.Concat(b.addressGaps(), b.fieldGaps(), b.endpointGaps())
}

// everything is the same cost for all detectors.
func everything(l loses, attacks string) (list []blindCost) {
	for _, name := range detectors.Names() {
		list = append(list, blindCost{name, l, attacks})
	}
	return list
}

func costs(l loses, names ...string) (list []blindCost) {
	for _, name := range names {
		list = append(list, blindCost{detector: name, loses: l})
	}
	return list
}

// addressGaps: clients that cannot be told apart.
func (b *blindSpots) addressGaps() (out []blindGap) {
	worst, told, whose := losesAll, "nobody can be told apart", ""
	switch {
	case b.named*2 > b.requests:
		worst, told, whose = losesSome, "who changes session, key or user is another client", "by clients that change them"
	case b.named*20 > b.requests:
		worst, told, whose = losesSome, "who has no session, key or user cannot be told apart", "by clients without them"
	}
	if b.noAddress*2 > b.requests {
		out = append(out, blindGap{
			cause: "address", requests: b.noAddress, of: b.requests, costs: everything(worst, whose), fix: "Log $remote_addr.",
			why: fmt.Sprintf("%d of %d requests name no client address: %s", b.noAddress, b.requests, told),
		})
	}
	if who, n, ok := b.crowd.most(b.requests - b.noAddress); ok && n*2 > b.requests {
		out = append(out, blindGap{
			cause: "forwarded", requests: n, of: b.requests, costs: everything(worst, whose), unless: "one program sends most of the requests",
			fix: fmt.Sprintf("Log $http_x_forwarded_for, and name the proxy: identity: {trusted_proxies: [%s]}.", who),
			why: fmt.Sprintf("%d of %d requests come from %s, which has the browsers of many: %s behind it", n, b.requests, who, told),
		})
	}
	return out
}

// fieldGaps: fields that are missing everywhere.
func (b *blindSpots) fieldGaps() (out []blindGap) {
	add := func(n, of int64, cause, why, fix string, c ...[]blindCost) *blindGap {
		out = append(out, blindGap{cause: cause, requests: n, of: of, why: fmt.Sprintf("%d of %d %s", n, of, why), fix: fix, costs: slices.Concat(c...)})
		return &out[len(out)-1]
	}
	if b.noStatus*20 > b.requests {
		add(b.noStatus, b.requests, "status", "requests have no status: misses and refusals are not seen", "Log $status.",
			costs(losesAll, "probe.path", "enum.object", "scrape.crawl", "volume.flood", "data.exposure", "auth.takeover", "key.misuse"),
			[]blindCost{{"auth.stuffing", losesSome, "by many clients"}}, costs(losesTime, "auth.stuffing", "auth.bruteforce", "auth.spraying", "enum.user"))
	}
	if b.noMethod*20 > b.requests {
		add(b.noMethod, b.requests, "method", "requests have no method: logins and reads cannot be told from others", "Log $request_method, or $request.",
			costs(losesAll, "scrape.crawl", "auth.bruteforce", "auth.spraying", "enum.user", "auth.takeover"), costs(losesSome, "auth.stuffing"), costs(losesTime, "data.exposure"))
	}
	if b.noBytes*2 > b.requests {
		add(b.noBytes, b.requests, "bytes", "answers have no size: what is too large is not seen", "Log $body_bytes_sent.", costs(losesAll, "data.exposure"))
	}
	if b.noAgent*2 > b.requests {
		add(b.noAgent, b.requests, "agent", "requests have no agent: crawlers that say who they are look like scrapers, tools like browsers", "Log $http_user_agent.", costs(losesPrecision, "scrape.crawl"), costs(losesTime, "inject.probe"))
	}
	if b.queries == 0 && b.requests >= minBlindQueries {
		g := add(b.requests, b.requests, "query", "requests have no query string: attacks in parameters are not seen, nor pages by number", "Log $request_uri, not $uri.",
			[]blindCost{{"inject.probe", losesSome, "in query strings"}}, costs(losesTime, "scrape.crawl"))
		g.unless = "no request has one"
	}
	if b.logins >= minBlindRequests && b.noLogin*2 > b.logins {
		add(b.noLogin, b.logins, "login_user", "logins and resets do not name the account that was tried",
			"Log it as login_user; only the application knows it: docs/logs.md has how it tells the log.",
			[]blindCost{{"auth.stuffing", losesSome, "by many clients"}}, costs(losesTime, "auth.stuffing", "auth.spraying", "enum.user"), []blindCost{{"auth.takeover", losesSome, "by passwords that were tried"}})
	}
	if b.sampled > 0 && b.sampled < 1 {
		out = append(out, blindGap{
			cause: "sampling", requests: b.requests, of: b.requests, costs: everything(losesTime, ""), fix: "Log every request.",
			why: fmt.Sprintf("the log shows %g of the requests: counts are those of the sample, and what takes n requests to be seen takes %.0f", b.sampled, 1/b.sampled) + " times n",
		})
	}
	return out
}

// endpointGaps: what single endpoints hide.
func (b *blindSpots) endpointGaps() (out []blindGap) {
	names := make([]string, 0, len(b.endpoints))
	for name := range b.endpoints {
		names = append(names, name)
	}
	slices.SortFunc(names, func(x, y string) int {
		if c := cmp.Compare(b.endpoints[y].attempts, b.endpoints[x].attempts); c != 0 {
			return c
		}
		return strings.Compare(x, y)
	})
	for _, name := range names {
		if g, ok := b.endpoints[name].gap(name); ok {
			out = append(out, g)
		}
	}
	if g, ok := b.opaqueGap(names); ok {
		out = append(out, g)
	}
	if b.accounts == 0 {
		g := blindGap{
			cause: "user", requests: b.requests, of: b.requests,
			costs: []blindCost{{"enum.object", losesSome, "on objects of others that are handed out"}, {"data.exposure", losesTime, ""}},
			why:   "no request names a user: whose an object is is not known",
			fix:   "Log $remote_user, or the account as user.",
		}
		if b.named == 0 {
			g.why = "no request names a user, a key or a session: clients are addresses"
			g.fix = "Log $remote_user, a session cookie or an API key."
			g.costs = append(g.costs, blindCost{"auth.takeover", losesSome, "by sessions that are stolen"}, blindCost{"key.misuse", losesAll, ""})
		}
		out = append(out, g)
	}
	return out
}

// opaque reports whether there are GraphQL, JSON-RPC or gRPC endpoints and not one
// request to them shows which object it asks for.
func (b *blindSpots) opaque() bool {
	_, ok := b.opaqueGap(nil)
	return ok
}

// opaqueGap says so, naming the first of names that is such an endpoint.
func (b *blindSpots) opaqueGap(names []string) (g blindGap, ok bool) {
	var attempts, objects int64
	for name, e := range b.endpoints {
		if e.asksInBody(name) {
			attempts, objects = attempts+e.attempts, objects+e.objects
		}
	}
	if objects > 0 || attempts < minBlindRequests {
		return g, false
	}
	first, more := "", 0
	for _, name := range names {
		switch {
		case !b.endpoints[name].asksInBody(name):
		case first == "":
			first = fmt.Sprintf("%q", name)
			first = first[1 : len(first)-1]
		default:
			more++
		}
	}
	if more > 0 {
		first += fmt.Sprintf(" and %d more", more)
	}
	return blindGap{
		cause: "object", requests: attempts, of: attempts,
		why:   first + ": the log does not show which objects are asked for: reading those of others is not detectable there",
		fix:   "Log $request_body or a JSON member graphql_variables; only ids are kept of it.",
		costs: costs(losesAll, "enum.object"),
	}, true
}

// asksInBody reports whether the endpoint called name is one whose requests say in
// their bodies what they ask for. One that shows no operation has its own line.
func (e *blindEndpoint) asksInBody(name string) bool {
	_, path, _ := strings.Cut(name, " ")
	return !e.login && (isGRPC(path) || manyInOne(path) && e.hidden*2 <= e.attempts)
}

// gap says what the endpoint called name hides.
func (e *blindEndpoint) gap(name string) (blindGap, bool) {
	_, path, _ := strings.Cut(name, " ")
	g := blindGap{endpoint: name, requests: e.hidden, of: e.attempts}
	alike := costs(losesAll, "enum.object", "scrape.crawl")
	switch {
	case e.login && e.hidden >= minBlindRequests:
		g.cause = "outcome"
		g.costs = slices.Concat(costs(losesTime, "auth.bruteforce", "auth.spraying"), []blindCost{{"auth.stuffing", losesSome, "by many clients"}}, costs(losesAll, "auth.takeover"))
		g.why = fmt.Sprintf("the outcome of %d of %d logins is not known (%s); too few people went on or tried again to learn it", e.hidden, e.attempts, e.common())
		g.fix = fmt.Sprintf("Name it: endpoints: [{match: %q, role: login, failure: {or_size: BYTES}}], or log $sent_http_location.", name)
	case e.login:
		return g, false
	case e.hidden >= minBlindRequests && e.hidden*2 > e.attempts:
		g.cause, g.costs = "operation", alike
		g.why = fmt.Sprintf("%s and the log shows no operation for %d of %d: all look alike", e.told200(), e.hidden, e.attempts)
		g.fix = "Log a JSON member graphql_operation (or $request_body) and graphql_errors or error_code."
	case isGRPC(path) && e.told == 0 && e.attempts >= minBlindRequests:
		g.cause, g.requests = "grpc_status", e.attempts
		g.costs = costs(losesAll, "enum.object", "probe.path")
		g.why = e.told200() + " and the log shows no gRPC status: failures are not seen"
		g.fix = "Log $upstream_trailer_grpc_status or a JSON member grpc_status."
	default:
		return g, false
	}
	return g, true
}

// text is the gap as one sentence or two for people.
func (g *blindGap) text() string {
	var b strings.Builder
	if g.endpoint != "" {
		shown := fmt.Sprintf("%q", g.endpoint)
		b.WriteString(shown[1:len(shown)-1] + ": ")
	}
	b.WriteString(g.why)
	if list := g.detectors(); list != "" {
		b.WriteString(" (" + list + ")")
	}
	b.WriteString(". " + g.fix)
	if g.unless != "" {
		b.WriteString(" It is no gap if " + g.unless + ".")
	}
	return b.String()
}

// detectors says who loses what, in words; nothing where all lose alike.
func (g *blindGap) detectors() string {
	if len(g.costs) == len(detectors.Names()) {
		return ""
	}
	var parts []string
	for _, l := range [...]struct {
		loses loses
		words string
	}{{losesAll, "unseen: "}, {losesSome, "in part: "}, {losesTime, "later: "}, {losesPrecision, "less sure: "}} {
		var names []string
		for _, c := range g.costs {
			if c.loses == l.loses {
				name := c.detector
				if c.attacks != "" {
					name += " " + c.attacks
				}
				names = append(names, name)
			}
		}
		if len(names) > 0 {
			parts = append(parts, l.words+strings.Join(names, ", "))
		}
	}
	return strings.Join(parts, "; ")
}

// lines says what is not seen, the worst first; most bounds those of single
// endpoints, 0 does not.
func (b *blindSpots) lines(most int) []string {
	var out []string
	gaps := b.gaps()
	hidden, shown := 0, 0
	for i := range gaps {
		if gaps[i].endpoint != "" {
			if shown++; most > 0 && shown > most {
				hidden++
				continue
			}
		}
		if hidden > 0 && gaps[i].endpoint == "" {
			out = append(out, fmt.Sprintf("and %d endpoints more", hidden))
			hidden = 0
		}
		out = append(out, gaps[i].text())
	}
	if hidden > 0 {
		out = append(out, fmt.Sprintf("and %d endpoints more", hidden))
	}
	if b.requests >= minBlindRequests {
		for _, p := range b.entrances.found() {
			out = append(out, p.text())
		}
	}
	return out
}

// write prints the blind spots, if there are any.
func (b *blindSpots) write(w io.Writer, most int) {
	for _, line := range b.lines(most) {
		fmt.Fprintf(w, "blind: %s\n", line)
	}
}

// encode is the report as a JSON text with a line end.
func (r blindReport) encode() ([]byte, error) {
	body, err := json.MarshalIndent(r, "", " ")
	return append(body, '\n'), err
}

// crowd looks for one address that most requests come from (Boyer and Moore's
// vote), and how many kinds of agents it shows.
type crowd struct {
	who    pipeline.Address
	votes  int64
	seen   int64 // of who, since it is the candidate
	agents uint64
}

// crowdAgents is how many agents, by a hash into 64, are those of many people.
const crowdAgents = 12

func (c *crowd) add(r *pipeline.Request) {
	switch {
	case r.Address.IsZero():
	case r.Address == c.who:
		c.votes++
		c.seen++
		c.agents |= 1 << (r.AgentKey & 63)
	case c.votes == 0:
		*c = crowd{who: r.Address, votes: 1, seen: 1, agents: 1 << (r.AgentKey & 63)}
	default:
		c.votes--
	}
}

// most returns the address that more than half of the requests come from, if
// there is one and it looks like many people.
func (c *crowd) most(requests int64) (who string, n int64, ok bool) {
	agents := 0
	for m := c.agents; m != 0; m &= m - 1 {
		agents++
	}
	return c.who.String(), c.seen, c.seen*2 > requests && agents >= crowdAgents
}
