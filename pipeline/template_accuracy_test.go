package pipeline

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v4"
)

// apiSpec is the truth that learned templates are compared with: paths with
// {slots}, and how the values of a slot look.
type apiSpec struct {
	name    string
	paths   []specPath
	clients int
	visits  int // requests of a client
	soft    int // wordlist paths answered 200 for the one scanner
}

type specPath struct {
	method, path string
	weight       float64
}

// specValue makes a slot's values: n is the object's rank.
func specValue(slot string, n uint64) string {
	r := rand.New(rand.NewPCG(n, 7))
	pick := func(alphabet string, n int) string {
		b := make([]byte, n)
		for i := range b {
			b[i] = alphabet[r.IntN(len(alphabet))]
		}
		return string(b)
	}
	word := func() string {
		var b strings.Builder
		for range 2 + r.IntN(2) {
			b.WriteByte("bcdfghklmnprstvw"[r.IntN(16)])
			b.WriteByte("aeiou"[r.IntN(5)])
			if r.IntN(3) == 0 {
				b.WriteByte("nrslt"[r.IntN(5)])
			}
		}
		return b.String()
	}
	const lower, digits = "abcdefghijklmnopqrstuvwxyz", "0123456789"
	const base62 = digits + lower + "ABCDEFGHIJKLMNOPQRSTUVWXYZ"
	switch slot {
	case "int":
		return fmt.Sprint(1000 + n*7)
	case "uuid":
		return pick("0123456789abcdef", 8) + "-" + pick("0123456789abcdef", 4) + "-4" + pick("0123456789abcdef", 3) + "-a" +
			pick("0123456789abcdef", 3) + "-" + pick("0123456789abcdef", 12)
	case "hex":
		return pick("0123456789abcdef", 40)
	case "shortuuid":
		return pick(base62, 22)
	case "video": // eleven characters: some have three digits, some have none
		return pick(base62, 11)
	case "slug":
		return word() + "-" + word() + "-" + word()
	case "product":
		return word() + "-" + word() + "-" + fmt.Sprint(n)
	case "user":
		if r.IntN(4) == 0 {
			return word() + fmt.Sprint(r.IntN(100))
		}
		return word() + word()
	case "word":
		return word()
	case "year":
		return fmt.Sprint(2018 + n%8)
	case "month":
		return fmt.Sprintf("%02d", 1+n%12)
	case "date":
		return fmt.Sprintf("2025-%02d-%02d", 1+n%12, 1+n%28)
	case "email":
		return word() + "@example.com"
	}
	panic("no values for slot " + slot)
}

// specSlot is "kind" or "kind:count:own": how many objects, and whether a
// client asks for its own ones only.
func specSlot(s string) (kind string, objects int, own bool) {
	kind, rest, _ := strings.Cut(s, ":")
	objects = 2000
	if rest != "" {
		count, mode, _ := strings.Cut(rest, ":")
		fmt.Sscan(count, &objects)
		own = mode == "own"
	}
	return kind, objects, own
}

// fillSpec replaces the slots of a path by values that client picks.
func fillSpec(path string, client int, r *rand.Rand) string {
	parts := strings.Split(path, "/")
	for i, p := range parts {
		if !strings.HasPrefix(p, "{") {
			continue
		}
		kind, objects, own := specSlot(strings.Trim(p, "{}"))
		n := rand.NewZipf(r, 1.1, 3, uint64(objects-1)).Uint64()
		if own {
			n = uint64(client*3+r.IntN(2)) % uint64(objects)
		}
		// What stands before a slot says whose values they are.
		parts[i] = specValue(kind, n+uint64(len(strings.Join(strings.Split(path, "/")[:i], "/")))<<20)
	}
	return strings.Join(parts, "/")
}

// traffic is what the spec's clients and one scanner do.
func (s *apiSpec) traffic(seed uint64) []trafficLine {
	r := rand.New(rand.NewPCG(seed, 1))
	total := 0.0
	for _, p := range s.paths {
		total += p.weight
	}
	var lines []trafficLine
	for client := range s.clients {
		id := Hash64(fmt.Sprint("client", client))
		// People differ: most use a part of the API, a few use all of it.
		visits := 1 + int(float64(s.visits)*(0.2+1.6*r.Float64()))
		for range visits {
			x := r.Float64() * total
			p := s.paths[len(s.paths)-1]
			for _, q := range s.paths {
				if x -= q.weight; x < 0 {
					p = q
					break
				}
			}
			line := trafficLine{p.method, fillSpec(p.path, client, r), 200, id}
			switch x := r.Float64(); {
			case x < 0.02:
				line.path, line.status = line.path+"/"+specValue("word", r.Uint64()), 404
			case x < 0.04:
				line.status = 401
			case x < 0.05:
				line.status = 500
			}
			lines = append(lines, line)
		}
	}
	for i := range 3000 {
		line := trafficLine{"GET", "/" + specValue([]string{"word", "slug", "user"}[i%3], uint64(i)+1<<40), 404, 99}
		if i < s.soft {
			line.status = 200
		}
		lines = append(lines, line)
	}
	r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
	return lines
}

// templateAccuracy is how learned templates compare with the truth.
type templateAccuracy struct{ endpoints, exact, over, under, wrong int }

// compare asks t for fresh objects of every endpoint.
func (s *apiSpec) compare(t *Templates, log func(string, ...any)) templateAccuracy {
	r := rand.New(rand.NewPCG(5, 5))
	texts := make(map[string][]string) // truth → learned
	owners := make(map[string][]string)
	var truths []string
	for _, p := range s.paths {
		if texts[p.path] != nil {
			continue
		}
		truths = append(truths, p.path)
		for range 40 {
			text := string(t.AppendText(nil, "", fillSpec(p.path, r.IntN(s.clients), r)))
			if !slices.Contains(texts[p.path], text) {
				texts[p.path] = append(texts[p.path], text)
			}
			if !slices.Contains(owners[text], p.path) {
				owners[text] = append(owners[text], p.path)
			}
		}
	}
	a := templateAccuracy{endpoints: len(truths)}
	for _, truth := range truths {
		got := texts[truth]
		over := slices.ContainsFunc(got, func(text string) bool { return len(owners[text]) > 1 && text != unknownText })
		switch {
		case over:
			a.over++
		case len(got) > 1:
			a.under++
		case !sameTemplate(truth, got[0]):
			a.wrong++
		default:
			a.exact++
			continue
		}
		log("  %s: %s → %d: %.200s", s.name, truth, len(got), got)
	}
	return a
}

// sameTemplate reports whether two templates have the same words and slots.
func sameTemplate(truth, got string) bool {
	a, b := strings.Split(strings.TrimSuffix(truth, "/"), "/"), strings.Split(strings.TrimSuffix(got, "/"), "/")
	return slices.EqualFunc(a, b, func(x, y string) bool {
		if strings.HasPrefix(x, "{") {
			return strings.HasPrefix(y, "{") && y != unknownText
		}
		e, _ := extensionOf(x)
		return x == y || e.asset && y == "{file}."+e.name
	})
}

func ownSpecs() []*apiSpec {
	paths := func(lines ...string) []specPath {
		var list []specPath
		for _, line := range lines {
			var p specPath
			if _, err := fmt.Sscan(line, &p.weight, &p.method, &p.path); err != nil {
				panic(err)
			}
			list = append(list, p)
		}
		return list
	}
	return []*apiSpec{
		{name: "shop", clients: 300, visits: 60, soft: 5, paths: paths(
			"10 GET /", "20 GET /p/{slug:117}", "8 GET /category/{word:20}", "4 GET /brand/{word:40}", "3 GET /search", "3 GET /cart", "2 POST /cart/items",
			"1 DELETE /cart/items/{int}", "1 GET /checkout/address", "1 GET /checkout/payment", "1 POST /checkout/confirm", "1 POST /login", "1 GET /login",
			"2 GET /account", "2 GET /account/orders", "2 GET /account/orders/{int:900:own}", "1 GET /account/addresses", "1 GET /about", "1 GET /contact",
			"1 GET /help/{slug:30}", "3 GET /p/{slug:117}/reviews", "20 GET /static/app.js", "20 GET /static/main.css", "1 GET /robots.txt",
			"4 GET /api/v1/profile", "4 GET /api/v1/notifications", "4 GET /api/v1/cart", "3 GET /api/v1/search", "1 POST /api/v1/logout",
			"3 GET /api/v1/orders", "3 GET /api/v1/products", "3 GET /api/v1/products/{slug:117}", "3 GET /api/v1/orders/{int:900:own}",
			"2 GET /products/{product:3000}", "1 GET /products/search", "2 GET /videos/{video:400}", "1 GET /u/{user:900:own}", "1 GET /u/{user:900:own}/lists",
		)},
		{name: "saas", clients: 400, visits: 60, soft: 5, paths: paths(
			"4 GET /t/{word:60:own}/projects", "6 GET /t/{word:60:own}/projects/{uuid}", "6 GET /t/{word:60:own}/projects/{uuid}/tasks",
			"3 POST /t/{word:60:own}/projects/{uuid}/tasks", "4 GET /t/{word:60:own}/projects/{uuid}/tasks/{int}", "2 GET /t/{word:60:own}/members",
			"2 GET /t/{word:60:own}/members/{email}", "1 GET /settings/profile", "1 GET /settings/billing", "1 GET /settings/security", "1 GET /settings/team",
			"1 GET /settings/api-keys", "1 GET /settings/notifications", "1 GET /settings/webhooks", "1 GET /settings/appearance",
			"2 GET /api/v2/users", "2 GET /api/v2/users/me", "2 GET /api/v2/users/{uuid:800:own}", "2 GET /api/v2/invoices", "2 GET /api/v2/invoices/{int:800:own}",
			"1 GET /api/v2/invoices/{int:800:own}/pdf", "1 GET /api/v2/reports/{date}", "1 GET /api/v2/files/{hex}", "1 POST /api/v2/invites",
			"1 POST /api/v2/invites/{shortuuid}/accept", "1 GET /api/v2/customers", "1 GET /api/v2/customers/{int}", "1 GET /api/v2/subscriptions",
			"1 GET /api/v2/subscriptions/{int}", "1 GET /api/v2/plans", "1 GET /api/v2/plans/{int}", "1 GET /api/v2/coupons", "1 GET /api/v2/coupons/{int}",
			"1 GET /api/v2/events", "1 GET /api/v2/events/{int}", "1 GET /api/v2/webhooks", "1 GET /api/v2/webhooks/{int}", "1 GET /api/v2/usage",
			"1 GET /api/v2/audit", "1 GET /api/v2/roles", "1 GET /api/v2/regions", "1 GET /api/v2/currencies", "1 GET /api/v2/limits", "1 POST /oauth2/token",
			"1 POST /oauth2/authorize", "1 POST /2fa/verify", "3 GET /health", "1 POST /rpc/GetQuote", "1 POST /rpc/ListQuotes", "1 POST /rpc/PlaceOrder",
			"1 POST /rpc/CancelOrder", "1 POST /rpc/ListOrders", "1 POST /rpc/GetOrder", "1 POST /rpc/Login", "1 POST /rpc/Logout", "1 POST /rpc/GetAccount",
			"1 POST /rpc/SetAccount", "1 POST /rpc/ListCards", "1 POST /rpc/AddCard", "1 POST /rpc/DropCard", "1 POST /rpc/Ping",
		)},
		{name: "blog", clients: 500, visits: 30, soft: 20, paths: paths(
			"10 GET /", "3 GET /en", "2 GET /de", "2 GET /fr", "2 GET /pt-BR", "2 GET /en/about", "1 GET /de/about", "1 GET /fr/about", "1 GET /pt-BR/about",
			"8 GET /en/posts/{slug:200}", "4 GET /de/posts/{slug:120}", "4 GET /fr/posts/{slug:80}", "8 GET /archive/{year}/{month}/{slug:300}",
			"2 GET /archive/{year}/{month}", "2 GET /archive/{year}", "5 GET /tag/{word:80}", "2 GET /author/{user:15}", "2 GET /feed", "1 GET /feed.xml",
			"1 GET /search", "1 GET /contact", "1 POST /comments", "1 GET /imprint", "1 GET /privacy-policy", "5 GET /{slug:150}", "2 GET /day/{date}",
		)},
		{name: "forge", clients: 250, visits: 50, soft: 10, paths: paths(
			"3 GET /", "2 GET /explore", "2 POST /login", "2 GET /notifications", "1 GET /settings/keys", "1 POST /settings/keys", "1 GET /pricing",
			"6 GET /{user:500:own}", "8 GET /{user:500:own}/{slug:900}", "6 GET /{user:500:own}/{slug:900}/issues", "4 GET /{user:500:own}/{slug:900}/issues/{int}",
			"2 POST /{user:500:own}/{slug:900}/issues", "2 GET /{user:500:own}/{slug:900}/commits/{hex}", "3 GET /assets/app.js",
		)},
		{name: "media", clients: 90, visits: 80, soft: 40, paths: paths(
			"5 POST /graphql", "5 GET /v1/home", "4 GET /v1/me", "4 GET /v1/me/likes", "4 GET /v1/tracks/{shortuuid:3000}", "4 GET /v1/artists/{slug:250}",
			"3 GET /v1/artists/{slug:250}/albums", "2 GET /v1/genres/{word:25}", "2 GET /v1/charts/{word:14}/{date}", "2 PUT /v1/me/likes/{shortuuid:3000}",
			"1 GET /v1/playlists", "2 GET /v1/playlists/{uuid:900:own}", "1 GET /v1/settings", "1 GET /v1/devices", "1 GET /v1/devices/{hex}", "1 GET /v1/queue",
			"1 GET /v1/history", "1 GET /v1/friends", "1 GET /v1/friends/{user:600:own}", "1 GET /v1/ads", "1 GET /v1/lyrics", "1 GET /v1/podcasts",
			"1 GET /v1/shows", "1 GET /v1/radio", "1 GET /status", "2 GET /img/{word:500}.jpg",
		)},
		{name: "tiny", clients: 6, visits: 90, paths: paths(
			"5 GET /", "3 POST /api/token", "4 GET /api/devices", "4 GET /api/devices/{int:50}", "3 GET /api/devices/{int:50}/readings", "2 GET /api/rooms",
			"2 GET /api/rooms/{word:6}", "2 GET /api/scenes", "1 POST /api/scenes", "1 GET /static/app.js",
		)},
	}
}

// openAPISpecs reads the two vulnerable APIs beside the tree.
func openAPISpecs(t *testing.T) []*apiSpec {
	t.Helper()
	dir := filepath.Join("..", "..", "shared", "data", "openapi_specs")
	crapi, err := os.ReadFile(filepath.Join(dir, "crapi-openapi-spec.json"))
	if err != nil {
		t.Logf("the OpenAPI specifications are not beside the tree, only our own specs are compared: %v", err)
		return nil
	}
	vampi, err := os.ReadFile(filepath.Join(dir, "openapi3.yml"))
	if err != nil {
		t.Fatal(err)
	}
	type document struct {
		Paths map[string]map[string]any `json:"paths" yaml:"paths"`
	}
	var a, b document
	if err := json.Unmarshal(crapi, &a); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Load(vampi, &b); err != nil {
		t.Fatal(err)
	}
	kinds := strings.NewReplacer(
		"{video_id}", "{int:800:own}", "{vehicleId}", "{uuid:800:own}", "{postId}", "{shortuuid:600}", "{order_id}", "{int:900:own}",
		"{username}", "{user:400:own}", "{book_title}", "{slug:300}", "{book}", "{slug:300}",
	)
	read := func(name string, d document) *apiSpec {
		s := &apiSpec{name: name, clients: 150, visits: 80, soft: 5}
		for path, methods := range d.Paths {
			for method := range methods {
				if method := strings.ToUpper(method); method != "PARAMETERS" {
					s.paths = append(s.paths, specPath{method, kinds.Replace(path), 1})
				}
			}
		}
		slices.SortFunc(s.paths, func(a, b specPath) int { return cmp.Or(cmp.Compare(a.path, b.path), cmp.Compare(a.method, b.method)) })
		return s
	}
	return []*apiSpec{read("crAPI", a), read("VAmPI", b)}
}

func learnTemplates(lines []trafficLine, learners int) *TemplateLearner {
	parts := make([]*TemplateLearner, learners)
	for i := range parts {
		parts[i] = NewTemplateLearner()
	}
	for i, r := range lines {
		parts[i%learners].Add("", r.method, r.path, r.status, r.client)
	}
	for _, p := range parts[1:] {
		parts[0].Merge(p)
	}
	return parts[0]
}

func encodeTemplates(t *testing.T, tt *Templates) []byte {
	t.Helper()
	b, err := (&Edition{Number: 1, Templates: tt}).Encode()
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestTemplateAccuracy(t *testing.T) {
	var sum templateAccuracy
	for _, s := range append(ownSpecs(), openAPISpecs(t)...) {
		for seed := range uint64(3) {
			lines := s.traffic(seed)
			tt := learnTemplates(lines, 1).Build(nil)
			a := s.compare(tt, t.Logf)
			t.Logf("%-6s seed %d: %6d requests, %3d endpoints, %3d exact, %d over-merged, %d under-merged, %d wrong; stable after %d requests",
				s.name, seed, len(lines), a.endpoints, a.exact, a.over, a.under, a.wrong, s.stableAfter(lines, tt))
			sum.endpoints += a.endpoints
			sum.exact += a.exact
			sum.over += a.over
			sum.under += a.under
			sum.wrong += a.wrong
		}
	}
	t.Logf("all: %d endpoints, %.1f %% exact, %d over-merged, %d under-merged, %d wrong", sum.endpoints,
		100*float64(sum.exact)/float64(sum.endpoints), sum.over, sum.under, sum.wrong)
	if sum.over > 0 {
		t.Errorf("%d endpoints over-merged, want none", sum.over)
	}
	if 100*sum.exact < 95*sum.endpoints {
		t.Errorf("%d of %d endpoints exact, want 95 %%", sum.exact, sum.endpoints)
	}
}

// stableAfter is the smallest power-of-two head of lines from which on the
// comparison is as good as with all.
func (s *apiSpec) stableAfter(lines []trafficLine, all *Templates) int {
	quiet := func(string, ...any) {}
	want := s.compare(all, quiet)
	for n := 250; n < len(lines); n *= 2 {
		if got := s.compare(learnTemplates(lines[:n], 1).Build(nil), quiet); got.exact >= want.exact && got.over <= want.over {
			return n
		}
	}
	return len(lines)
}

func TestTemplatesOrderFree(t *testing.T) {
	for _, s := range append(ownSpecs(), openAPISpecs(t)...) {
		lines := s.traffic(1)
		want := encodeTemplates(t, learnTemplates(lines, 1).Build(nil))
		r := rand.New(rand.NewPCG(3, 3))
		for i := range 5 {
			r.Shuffle(len(lines), func(i, j int) { lines[i], lines[j] = lines[j], lines[i] })
			if got := encodeTemplates(t, learnTemplates(lines, 1+2*(i%2)).Build(nil)); !bytes.Equal(got, want) {
				t.Fatalf("%s: shuffle %d gives other bytes", s.name, i)
			}
		}
	}
}
