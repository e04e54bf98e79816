package console

import (
	"cmp"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"weir/pipeline"
)

// EndpointLimit is what clients ask of an endpoint at most, and the limit that
// follows from it: requests in a minute that 99.9 % of the clients without an
// alert stay under.
type EndpointLimit struct {
	Host           string `json:"host"` // "" for several, or none in the log
	Method         string `json:"method"`
	Template       string `json:"template"`
	PerMinute      int64  `json:"per_minute"`
	Clients        int64  `json:"clients"` // without an alert
	Touched        int64  `json:"touched"` // of those, by the limit
	Median         int64  `json:"median"`  // of their busiest minutes
	Most           int64  `json:"most"`
	Alerted        int64  `json:"alerted"` // clients with an alert
	AlertedTouched int64  `json:"alerted_touched"`
}

// Limits are the limits of all endpoints that enough clients use.
type Limits struct {
	Since, Until pipeline.Time // of the requests that they were read off
	Requests     int64
	ByAddress    []EndpointLimit
	ByKey        []EndpointLimit // by credential: key, subject or account
}

// limitsView is the answer.
type limitsView struct {
	Since    pipeline.Time   `json:"since"`
	Until    pipeline.Time   `json:"until"`
	Requests int64           `json:"requests"`
	By       string          `json:"by"`
	Data     []EndpointLimit `json:"data"`
}

// limits answers what clients may be held to, as JSON or as a file for a gateway.
// weir advises; the gateway acts.
func (c *console) limits(w http.ResponseWriter, r *http.Request, _ *caller) {
	q := newQuery(r.URL.RawQuery)
	format, by := q.oneOf("format", "json", "nginx", "haproxy"), cmp.Or(q.oneOf("by", "address", "key"), "address")
	if err := q.err(); err != nil {
		c.refuseFor(w, r, err)
		return
	}
	if c.Limits == nil {
		refuse(w, &problem{Status: http.StatusNotFound, Detail: "limits are off; console.decisions turns them on"})
		return
	}
	l := c.Limits()
	if l == nil {
		w.Header().Set("Retry-After", "60")
		refuse(w, &problem{Status: http.StatusServiceUnavailable, Detail: "weir has not seen enough to advise limits; it looks every hour"})
		return
	}
	list := l.ByAddress
	if by == "key" {
		list = l.ByKey
	}
	switch format {
	case "nginx":
		write(w, http.StatusOK, "text/plain; charset=utf-8", nginxLimits(list, by))
	case "haproxy":
		write(w, http.StatusOK, "text/plain; charset=utf-8", haproxyLimits(list))
	default:
		if list == nil {
			list = []EndpointLimit{}
		}
		body, err := jsonLine(limitsView{l.Since, l.Until, l.Requests, by, list})
		if err != nil {
			c.failed(w, r, err)
			return
		}
		write(w, http.StatusOK, "application/json", body)
	}
}

// maxGatewayLimits is how many endpoints a gateway's file has: each is a zone of
// nginx's shared memory.
const maxGatewayLimits = 100

// gatewayLimit is a limit with the pattern of what it is for.
type gatewayLimit struct {
	EndpointLimit
	host, path string // regular expressions
	wide       int    // segments that anything fits
	slots      int
}

// gatewayLimits are the limits that a gateway can tell apart by host, method and
// path, those with the most clients. Endpoints that fit more stand behind those
// that fit less: the first one that fits counts.
func gatewayLimits(list []EndpointLimit) []gatewayLimit {
	var out []gatewayLimit
	for _, e := range list {
		g := gatewayLimit{EndpointLimit: e}
		if g.patterns() {
			out = append(out, g)
		}
	}
	slices.SortStableFunc(out, func(a, b gatewayLimit) int { return cmp.Compare(b.Clients, a.Clients) })
	out = out[:min(len(out), maxGatewayLimits)]
	slices.SortStableFunc(out, func(a, b gatewayLimit) int {
		return cmp.Or(cmp.Compare(a.wide, b.wide), cmp.Compare(a.slots, b.slots), cmp.Compare(a.Template, b.Template), cmp.Compare(a.Method, b.Method), cmp.Compare(a.Host, b.Host))
	})
	return out
}

const plainChars = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_.~"

// patterns makes them; false where attackers could have put something into the
// template that a gateway's file takes for anything else.
func (g *gatewayLimit) patterns() bool {
	quoted := func(s string) string { return strings.ReplaceAll(s, ".", `\.`) }
	if g.host = "[^/]*"; g.Host != "" {
		if strings.Trim(g.Host, plainChars) != "" {
			return false
		}
		g.host = quoted(strings.ToLower(g.Host))
	}
	var b strings.Builder
	for segment := range strings.SplitSeq(strings.Trim(g.Template, "/"), "/") {
		name, rest, slot := strings.Cut(segment, "}")
		switch {
		case strings.Trim(strings.TrimPrefix(segment, name+"}"), plainChars) != "":
			return false
		case !slot:
			b.WriteString("/" + quoted(segment))
			continue
		case !strings.HasPrefix(name, "{"):
			return false
		}
		g.slots++
		switch name[1:] {
		case "int":
			b.WriteString("/[0-9]+")
		case "uuid":
			b.WriteString("/[0-9a-fA-F]+-[0-9a-fA-F-]+")
		default:
			g.wide++
			b.WriteString("/[^/]+")
		}
		b.WriteString(quoted(rest))
	}
	g.path = b.String() + "/?"
	if strings.Trim(g.Template, "/") == "" {
		g.path = "/"
	}
	return strings.HasPrefix(g.Template, "/")
}

// nginxLimits is a file for nginx, to be included in http. A client that stays
// under a limit in any minute is never refused: the burst is as large.
func nginxLimits(list []EndpointLimit, by string) []byte {
	client := "$binary_remote_addr"
	if by == "key" {
		client = "$http_authorization"
	}
	limits := gatewayLimits(list)
	var b strings.Builder
	b.WriteString("# weir: what 99.9 % of the clients without an alert stay under, in requests a minute. Include it in http;\n" +
		"# limit_req_dry_run on; shows in error.log what it would refuse, limit_req_status 429; says so to clients.\n")
	b.WriteString("map \"$host $request_method $uri\" $weir_endpoint {\n    default \"\";\n")
	for i, g := range limits {
		fmt.Fprintf(&b, "    \"~^%s %s %s$\" %d;\n", g.host, g.Method, g.path, i+1)
	}
	b.WriteString("}\n")
	for i, g := range limits {
		n := i + 1
		fmt.Fprintf(&b, "map $weir_endpoint $weir_client_%d { default \"\"; %d %s; }\n", n, n, client)
		fmt.Fprintf(&b, "limit_req_zone $weir_client_%d zone=weir_%d:1m rate=%dr/m;\n", n, n, g.PerMinute)
		fmt.Fprintf(&b, "limit_req zone=weir_%d burst=%d nodelay; # %d clients, %d of them touched; %d of %d with an alert\n", n, g.PerMinute, g.Clients, g.Touched, g.AlertedTouched, g.Alerted)
	}
	return []byte(b.String())
}

// haproxyLimits is a map of regular expressions for HAProxy, over
// HOST:METHOD:PATH: the endpoint's number and the limit. HAProxy guesses a rate
// from what came in this minute and the one before, and guesses up to twice of
// what came in any: the limit stands doubled.
func haproxyLimits(list []EndpointLimit) []byte {
	var b strings.Builder
	b.WriteString("# weir: twice of what 99.9 % of the clients without an alert stay under, in requests a minute; see haproxy-limits.cfg\n")
	for i, g := range gatewayLimits(list) {
		fmt.Fprintf(&b, "^%s:%s:%s$ %d:%d\n", g.host, g.Method, g.path, i+1, 2*g.PerMinute)
	}
	return []byte(b.String())
}
