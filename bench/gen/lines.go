package main

import (
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"strconv"
	"time"
)

const (
	productCount  = 2000
	categoryCount = 24
	assetCount    = 9
	firstOrder    = 100_000
)

// agents are what visitors use. The tables here are never written.
var agents = [...]string{
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/133.0.0.0 Safari/537.36",
	"Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.2 Safari/605.1.15",
	"Mozilla/5.0 (iPhone; CPU iPhone OS 18_3 like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/18.3 Mobile/15E148 Safari/604.1",
	"Mozilla/5.0 (X11; Linux x86_64; rv:135.0) Gecko/20100101 Firefox/135.0",
	"Mozilla/5.0 (Linux; Android 14; SM-S921B) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/132.0.0.0 Mobile Safari/537.36",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64; rv:134.0) Gecko/20100101 Firefox/134.0",
	"Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/131.0.0.0 Safari/537.36 Edg/131.0.0.0",
}

// attackerAgents go by kind.
func attackerAgent(k actorKind) string {
	return [...]string{
		scanner:   "Mozilla/5.0 (compatible; Nmap Scripting Engine; https://nmap.org/book/nse.html)",
		loginLoop: "python-requests/2.32.3",
		crawler:   "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
		idWalk:    "curl/8.5.0",
	}[k]
}

// page is what a visitor looks at; its assets are asked for after it.
type page struct {
	kind pageKind
	n    int
}

type pageKind uint8

const (
	pageHome pageKind = iota
	pageProduct
	pageCategory
	pageList
	pageSearch
	pageLogin
	pageOrder
	pageCart
	pageDead
)

func (g *generator) drawPage(a *actor) page {
	switch v := g.rnd.Uint64N(100); {
	case a.step == 0 && v < 45:
		return page{pageHome, 0}
	case v < 48:
		return page{pageProduct, int(g.products.Uint64())}
	case v < 62:
		return page{pageCategory, int(g.rnd.Uint64N(categoryCount))}
	case v < 72:
		return page{pageList, 1 + int(g.exp(2))}
	case v < 80:
		return page{pageSearch, int(g.products.Uint64())}
	case v < 83 && a.user != 0:
		return page{pageLogin, int(g.rnd.Uint64N(8))} // 0: mistyped
	case v < 88 && a.user != 0:
		return page{pageOrder, firstOrder + a.user*3 + int(g.rnd.Uint64N(3))}
	case v < 93 && a.user != 0:
		return page{pageCart, 0}
	case v == 99:
		return page{pageDead, int(g.rnd.Uint64N(6))}
	}
	return page{pageProduct, int(g.products.Uint64())}
}

// appendRequest writes a's next request and decides when it acts again.
func (g *generator) appendRequest(buf []byte, a *actor) []byte {
	if a.kind != visitor {
		buf = g.appendAttack(buf, a)
		a.step++
		a.pages--
		a.next += a.gap/2 + int64(g.rnd.Uint64N(uint64(a.gap)))
		return buf
	}
	agent := agents[a.client*2654435761>>16%uint32(len(agents))]
	if a.assets > 0 {
		buf = g.appendAsset(buf, a, agent)
		a.assets--
		a.next += 8_000 + int64(g.rnd.Uint64N(60_000))
		if a.assets == 0 {
			a.next += g.think()
		}
		return buf
	}
	a.page = g.drawPage(a)
	buf = g.appendHead(buf, a.client)
	status, size := 200, 4_000+a.page.n*37%18_000
	method := "GET "
	switch a.page.kind {
	case pageLogin:
		method = "POST "
		if status, size = 302, 0; a.page.n == 0 {
			status, size = 200, 1912 // the form again: how most sites refuse
		}
	case pageDead:
		status, size = 404, 1245
	case pageCart, pageOrder:
		size = 180 + a.page.n%700
	}
	buf = append(buf, method...)
	buf = appendPagePath(buf, a.page)
	referer := ""
	if a.step > 0 {
		referer = "https://shop.example/"
	} else if a.client%3 == 0 {
		referer = "https://www.google.com/"
	}
	buf = appendTail(buf, status, size, referer, agent)
	a.step++
	a.pages--
	switch a.page.kind {
	case pageLogin, pageOrder, pageCart:
		a.next += g.think()
	default:
		// The first page brings all assets, later ones what is not cached.
		a.assets = 2 + int(g.rnd.Uint64N(3))
		if a.known == 0 {
			a.assets, a.known = assetCount, assetCount
		}
		a.next += 60_000 + int64(g.rnd.Uint64N(200_000))
	}
	return buf
}

func appendPagePath(buf []byte, p page) []byte {
	n := int64(p.n)
	switch p.kind {
	case pageProduct:
		return appendProduct(append(buf, "/p/"...), p.n)
	case pageCategory:
		return append(append(buf, "/category/"...), words[p.n%len(words)]...)
	case pageList:
		return strconv.AppendInt(append(buf, "/products?page="...), n, 10)
	case pageSearch:
		return append(append(buf, "/search?q="...), words[p.n%len(words)]...)
	case pageLogin:
		return append(buf, "/login"...)
	case pageOrder:
		return strconv.AppendInt(append(buf, "/api/v1/orders/"...), n, 10)
	case pageCart:
		return append(buf, "/api/v1/cart"...)
	case pageDead:
		return strconv.AppendInt(append(buf, "/blog/2019/moved-"...), n, 10)
	}
	return append(buf, '/')
}

var words = [...]string{
	"lamp", "chair", "desk", "shelf", "clock", "vase", "rug", "sofa", "mirror", "stool", "bench", "frame",
	"basket", "blanket", "candle", "cushion", "drawer", "hook", "kettle", "ladder", "pan", "plate", "tray", "wardrobe",
}

func appendProduct(buf []byte, n int) []byte {
	buf = append(append(append(buf, words[n%len(words)]...), '-'), words[n/len(words)%len(words)]...)
	return strconv.AppendInt(append(buf, '-'), int64(n), 10)
}

func (g *generator) appendAsset(buf []byte, a *actor, agent string) []byte {
	n := a.assets
	buf = append(g.appendHead(buf, a.client), "GET "...)
	size := 2_000 + n*3_100
	switch n {
	case 9:
		buf = append(buf, "/static/css/main.4f2a.css"...)
	case 8:
		buf = append(buf, "/static/js/app.81bc.js"...)
	case 7:
		buf = append(buf, "/favicon.ico"...)
	default:
		i := (a.page.n*7 + n) % productCount
		buf = strconv.AppendInt(append(buf, "/static/img/p"...), int64(i), 10)
		buf = append(buf, ".jpg"...)
		size += i * 13
	}
	status := 200
	if a.step > 1 && g.rnd.Uint64N(4) == 0 {
		status, size = 304, 0
	}
	return appendTail(buf, status, size, "https://shop.example/", agent)
}

// appendAttack writes an attacker's next request.
func (g *generator) appendAttack(buf []byte, a *actor) []byte {
	buf = g.appendHead(buf, a.client)
	status, size := 404, 1245
	switch a.kind {
	case scanner:
		buf = append(buf, "GET /"...)
		buf = append(buf, probeWords[a.step%len(probeWords)]...)
		if round := a.step / len(probeWords); round > 0 {
			buf = append(buf, [...]string{"", ".bak", ".old", "/", ".zip", "~", ".txt", ".php"}[round%8]...)
			if round >= 8 {
				buf = strconv.AppendInt(buf, int64(round), 10)
			}
		}
		if a.step%97 == 60 {
			status, size = 403, 312
		}
	case loginLoop:
		buf = append(buf, "POST /login"...)
		status, size = 200, 1912
	case crawler:
		buf = appendProduct(append(buf, "GET /p/"...), a.step%productCount)
		status, size = 200, 4_000+a.step*37%18_000
	case idWalk:
		buf = strconv.AppendInt(append(buf, "GET /api/v1/orders/"...), firstOrder+int64(a.user)+int64(a.step), 10)
		status, size = 403, 58
		if a.step%23 == 4 {
			status, size = 404, 41
		} else if a.step%31 == 7 {
			status, size = 200, 640
		}
	}
	return appendTail(buf, status, size, "", attackerAgent(a.kind))
}

var probeWords = [...]string{
	".env", ".git/config", ".git/HEAD", ".svn/entries", "wp-login.php", "wp-admin/", "xmlrpc.php", "phpinfo.php", "phpmyadmin/",
	"admin/", "administrator/", "backup", "backup.sql", "db.sql", "dump", "config.php", "config.json", "server-status", "cgi-bin/test.cgi",
	"actuator/env", "actuator/heapdump", "api/swagger.json", "swagger-ui.html", "graphql", "console/", "manager/html", "solr/admin",
	"jenkins/login", "vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", "old/", "test/", "dev/", "staging/", "private/", "uploads/shell",
	"id_rsa", ".ssh/id_rsa", ".aws/credentials", ".DS_Store", "web.config", "docker-compose.yml", "package.json", "composer.lock", "debug",
	"trace.axd", "elmah.axd", "owa/auth/logon.aspx", "autodiscover/", "hudson", "login.action", "struts/", "shell", "cmd", "install", "setup",
	"readme", "license", "crossdomain.xml", "error_log", "access.log",
}

// appendSingle writes a request of an address that is never seen again.
func (g *generator) appendSingle(buf []byte) []byte {
	client := uint32(g.plan.Clients + g.plan.Attackers + g.single - 1)
	buf = append(g.appendHead(buf, client), "GET "...)
	p := page{pageProduct, int(g.products.Uint64())}
	return appendTail(appendPagePath(buf, p), 200, 4_000+p.n*37%18_000, "", agents[client%uint32(len(agents))])
}

// appendHead writes everything up to the request's opening quote.
func (g *generator) appendHead(buf []byte, client uint32) []byte {
	buf = g.scheme.append(buf, client)
	if s := g.now / 1e6; s != g.second {
		g.second = s
		g.stamp = g.plan.Start.Add(time.Duration(s)*time.Second).AppendFormat(g.stamp[:0], " - - [02/Jan/2006:15:04:05 +0000] \"")
	}
	return append(buf, g.stamp...)
}

func appendTail(buf []byte, status, size int, referer, agent string) []byte {
	buf = append(buf, " HTTP/1.1\" "...)
	buf = strconv.AppendInt(buf, int64(status), 10)
	buf = strconv.AppendInt(append(buf, ' '), int64(size), 10)
	if referer == "" {
		referer = "-"
	}
	buf = append(append(append(buf, " \""...), referer...), "\" \""...)
	return append(append(buf, agent...), "\"\n"...)
}

// addressScheme turns a client number into an address; distinct numbers give
// distinct addresses.
type addressScheme uint8

const (
	documentation addressScheme = iota // RFC 5737 and 3849
	benchmark                          // RFC 2544
	anywhere                           // spread over unicast IPv4
)

func schemeFor(clients int) addressScheme {
	switch {
	case clients <= 3*254:
		return documentation
	case clients <= 1<<17:
		return benchmark
	}
	return anywhere
}

func (s addressScheme) append(buf []byte, n uint32) []byte {
	var b [4]byte
	switch s {
	case documentation:
		if n%8 == 5 { // one in eight speaks IPv6
			buf = append(buf, "2001:db8:"...)
			buf = strconv.AppendUint(buf, uint64(n)+1, 16)
			return append(buf, "::1"...)
		}
		m := n * 107 % (3 * 254) // 107 and 762 share no factor: a permutation
		binary.BigEndian.PutUint32(b[:], [...]uint32{0xc0000200, 0xc6336400, 0xcb007100}[m%3]+1+m/3)
	case benchmark:
		binary.BigEndian.PutUint32(b[:], 198<<24|18<<16|n*40503&0x1ffff)
	case anywhere:
		m := n * 0x9e3779b1 // odd: a permutation; the top octet is moved to 11..74
		binary.BigEndian.PutUint32(b[:], m&0x3fffffff+11<<24)
	}
	for i, o := range b {
		if i > 0 {
			buf = append(buf, '.')
		}
		buf = strconv.AppendUint(buf, uint64(o), 10)
	}
	return buf
}

// WriteLabels writes the ground truth of what WriteLog wrote: one label a line,
// attackers first, then the ordinary visitors, at most 4,096 a line.
func (g *generator) WriteLabels(w io.Writer) error {
	enc := json.NewEncoder(w)
	types := [actorKinds]string{scanner: "probe.path", loginLoop: "auth.bruteforce", crawler: "scrape.crawl", idWalk: "enum.object"}
	principal := func(client uint32) string { return "ip:" + string(g.scheme.append(nil, client)) }
	for i, t := range g.truth {
		if t.requests == 0 {
			continue
		}
		at := func(us int64) string {
			return g.plan.Start.Add(time.Duration(us/1e6) * time.Second).Format(time.RFC3339)
		}
		if err := enc.Encode(map[string]any{
			"episode": fmt.Sprintf("g%02d", i+1), "type": types[t.kind], "principals": []string{principal(t.client)},
			"start": at(t.first), "end": at(t.last), "requests": t.requests,
		}); err != nil {
			return err
		}
	}
	for from := 0; from < g.plan.Clients; from += 4096 {
		var ps []string
		for c := from; c < min(from+4096, g.plan.Clients); c++ {
			ps = append(ps, principal(uint32(c)))
		}
		if err := enc.Encode(map[string]any{"benign": "visitor", "principals": ps}); err != nil {
			return err
		}
	}
	return nil
}
