package simulate

import (
	"math"
	"strconv"
	"strings"
)

// Sites lists the kinds of site.
func Sites() []string { return []string{"shop", "saas", "public", "graphql", "grpc"} }

// loginWays are how logins answer. status: 401 or 200. size: always 200, a
// failure is 1,910 bytes. redirect: 302, a failure 200. error: always 302, a
// failure leads to /login?error.
func loginWays() []string { return []string{"status", "size", "redirect", "error"} }

type op uint8

const (
	opHome op = iota
	opList
	opCursor
	opItem
	opSearch
	opMe
	opMine
	opObject
	opAdd
	opCreate
	opEmail
	opPayout
	opPassword
	opReset
	opRegister
	opExport
	opBulk
	opAsset
	opMedia
	opHealth
	opPoll
	opToken
	opWrite
	opAdminList
	opAdminUser
	opUpdates
	opBackup
	opLogout
	opPage // of an item, for who reads HTML; plain HTTP on every site
	ops
)

// call is one request as the site sees it, before its face (REST, GraphQL, gRPC)
// is put on.
type call struct {
	op        op
	method    string
	path      string
	operation string
	body      string
	object    string // what body asks for, as alerts list it; "" where the path says it
	status    int
	bytes     int64
	ms        float64
	login     string
	aside     bool // follows from another request: no attempt of its own
	anonymous bool
	refused   bool // the answer is a failure that may not show in the status
	appStatus bool
	appFailed bool
	app       bool // served by the application: GraphQL and gRPC answer 200
}

const (
	ownedObjects = 6 // private objects of an account
	firstObject  = 104_000
	missBytes    = 548
	softBytes    = 7421
	failBytes    = 1910
	tenantCount  = 40
	pageItems    = 20
	maxLimit     = 1_000_000
)

type site struct {
	kind     string
	host     string
	accounts int
	items    int
	way      string
	hidden   bool
	noBodies bool
	soft     bool
	key      uint64
	lnItems  float64
}

func newSite(s Site) site {
	t := site{
		kind: s.Kind, host: s.Host, accounts: s.Accounts, items: s.Items, way: s.Login, hidden: s.HideLoginUser, noBodies: s.HideBodies, soft: s.Soft404,
		key: hashName(s.Kind),
	}
	if t.host == "" {
		t.host = "api." + s.Kind + ".example"
	}
	if t.accounts == 0 {
		t.accounts = 20_000
	}
	if t.items == 0 {
		t.items = map[string]int{"shop": 4000, "saas": 12_000, "public": 8000, "graphql": 4000, "grpc": 4000}[s.Kind]
	}
	if t.way == "" {
		t.way = "status"
	}
	t.lnItems = math.Log(float64(t.items))
	return t
}

// accountName names account n, different for each.
func (s *site) accountName(n int) string {
	first, last := firstNames(), lastNames()
	b := make([]byte, 0, 40)
	b = append(b, first[n%len(first)]...)
	b = append(b, '.')
	b = append(b, last[n/len(first)%len(last)]...)
	if k := n / (len(first) * len(last)); k > 0 {
		b = strconv.AppendInt(b, int64(k), 10)
	}
	return string(append(b, "@mail.example"...))
}

func firstNames() [32]string {
	return [...]string{
		"anna", "ben", "clara", "david", "emma", "felix", "greta", "hannes", "ines", "jonas", "karla", "lukas", "marie", "noah", "olivia", "paul",
		"rosa", "simon", "tina", "uwe", "vera", "willi", "yara", "zoe", "amir", "bea", "cem", "dora", "elif", "finn", "gina", "hugo",
	}
}

func lastNames() [32]string {
	return [...]string{
		"adler", "bauer", "conrad", "dietz", "engel", "fuchs", "graf", "huber", "ilic", "jansen", "keller", "lang", "meier", "nowak", "otto", "peters",
		"quast", "richter", "schmidt", "thoma", "ullrich", "vogel", "weber", "yilmaz", "zimmer", "arnold", "busch", "czerny", "dorn", "ernst", "frank", "gross",
	}
}

// rank draws an item by popularity: Zipf with exponent 1.
func (s *site) rank(u float64) int64 { return min(int64(s.items)-1, int64(math.Exp(u*s.lnItems))-1) }

// itemID is the id of the item of a rank: popularity says nothing of the id.
func (s *site) itemID(rank int64) int64 {
	return 1000 + int64(permute(uint64(rank), uint64(s.items), s.key^0x17e3))
}

// itemAt is the item of the k-th id, for who walks ids.
func (s *site) itemAt(k int64) int64 {
	return int64(unpermute(uint64(k), uint64(s.items), s.key^0x17e3))
}

func (s *site) objects() int64 { return int64(s.accounts) * ownedObjects }

// object is the number of the j-th private object of an account.
func (s *site) object(account, j int) int64 { return int64(account)*ownedObjects + int64(j) }

// objectID is the id on sites that count; objectAt is its inverse.
func (s *site) objectID(object int64) int64 {
	return firstObject + int64(permute(uint64(object), uint64(s.objects()), s.key^0x0b1e))
}

func (s *site) objectAt(id int64) int64 {
	return int64(unpermute(uint64(id-firstObject), uint64(s.objects()), s.key^0x0b1e))
}

// gone reports whether an object was deleted: some ids are holes.
func (s *site) gone(object int64) bool { return hash2(s.key^0xdead, uint64(object))%100 < 3 }

func (s *site) owner(object int64) int { return int(object / ownedObjects) }

func uuidOf(h uint64) string {
	a := hex16(mix(h))
	b := hex16(mix(h + 0x9e3779b97f4a7c15))
	return a[:8] + "-" + a[8:12] + "-4" + a[13:] + "-a" + b[1:4] + "-" + b[4:]
}

func (s *site) slug(n int64) string {
	words := [...]string{"red", "oak", "light", "trail", "urban", "nova", "classic", "mini", "ultra", "soft", "steel", "moss", "river", "north", "amber", "plain"}
	h := hash2(s.key, uint64(n))
	return words[h%16] + "-" + words[h>>4%16] + "-" + strconv.FormatInt(n, 10)
}

// searched is what people search for; the table is never written.
var searched = [24]string{
	"shoes", "winter+jacket", "lamp", "usb-c+cable", "backpack", "invoice+2025", "report", "o'brien", "coffee", "desk", "garden+chair", "phone+case",
	"blue", "select+tickets", "drop+earrings", "tent+4+person", "rain", "rock+%26+roll", "m%C3%BCller", "c%2B%2B", "5%25+off", "mug", "union+jack", "bike+light",
}

// weightOf is the size in bytes and the milliseconds of an op's answer.
func weightOf(o op) (bytes int64, ms float64) {
	switch o {
	case opHome:
		return 14_000, 35
	case opPage:
		return 22_000, 40
	case opList, opCursor, opSearch:
		return 9000, 45
	case opItem:
		return 2600, 18
	case opMine:
		return 3200, 30
	case opObject, opAdminUser:
		return 1800, 22
	case opExport, opBulk:
		return 48_000, 160
	case opAsset:
		return 60_000, 3
	case opMedia:
		return 85_000, 6
	case opBackup:
		return 8 << 20, 2500
	case opAdminList, opUpdates:
		return 12_000, 60
	case opCreate:
		return 900, 90
	case opHealth:
		return 15, 1
	case opPoll:
		return 42, 5
	case opMe:
		return 640, 8
	}
	return 420, 20
}

// paths of the ops by kind of site: method, what comes before the argument, what
// comes behind it.
type shape struct{ method, before, after string }

func (s *site) shapeOf(o op) shape {
	switch s.kind {
	case "saas":
		return saasShapes[o]
	case "public":
		return publicShapes[o]
	}
	return shopShapes[o]
}

var shopShapes = [ops]shape{
	opHome: {"GET", "/", ""}, opList: {"GET", "/api/products?page=", "&category="}, opCursor: {"GET", "/api/products?cursor=", "&limit=50"},
	opItem: {"GET", "/api/products/", ""}, opSearch: {"GET", "/api/search?q=", ""}, opMe: {"GET", "/api/me", ""},
	opMine: {"GET", "/api/orders?page=", ""}, opObject: {"GET", "/api/orders/", ""}, opAdd: {"POST", "/api/cart/items", ""},
	opCreate: {"POST", "/api/orders", ""}, opEmail: {"PUT", "/api/me/email", ""}, opPayout: {"PUT", "/api/me/payout", ""},
	opPassword: {"PUT", "/api/me/password", ""}, opReset: {"POST", "/api/password/reset", ""}, opRegister: {"POST", "/api/register", ""},
	opExport: {"GET", "/api/orders/export?page=", "&limit=1000"}, opBulk: {"GET", "/api/products?limit=", "&page="},
	opAsset: {"GET", "/static/app.", ".js"}, opMedia: {"GET", "/media/", ".jpg"}, opHealth: {"GET", "/healthz", ""},
	opPoll: {"GET", "/api/notifications?since=", ""}, opToken: {"POST", "/oauth/token", ""}, opWrite: {"POST", "/api/events", ""},
	opAdminList: {"GET", "/admin/api/orders?page=", ""}, opAdminUser: {"GET", "/admin/api/customers/", "/orders"},
	opUpdates: {"GET", "/api/products?updated_since=", "&limit=200"}, opBackup: {"GET", "/backups/catalogue-", ".tar"},
	opLogout: {"POST", "/api/logout", ""}, opPage: {"GET", "/products/", ""},
}

var saasShapes = [ops]shape{
	opHome: {"GET", "/api/v1/dashboard", ""}, opList: {"GET", "/documents?page=", ""}, opCursor: {"GET", "/documents?after=", "&per_page=50"},
	opItem: {"GET", "/documents/", ""}, opSearch: {"GET", "/search?query=", ""}, opMe: {"GET", "/api/v1/users/me", ""},
	opMine: {"GET", "/api/v1/reports?page=", ""}, opObject: {"GET", "/api/v1/reports/", ""}, opAdd: {"PATCH", "/api/v1/drafts/current", ""},
	opCreate: {"POST", "/documents", ""}, opEmail: {"PATCH", "/api/v1/users/me/email", ""}, opPayout: {"PATCH", "/api/v1/users/me/billing", ""},
	opPassword: {"PATCH", "/api/v1/users/me/password", ""}, opReset: {"POST", "/api/v1/auth/reset", ""}, opRegister: {"POST", "/api/v1/auth/register", ""},
	opExport: {"GET", "/export?page=", "&per_page=1000"}, opBulk: {"GET", "/documents?per_page=", "&page="},
	opAsset: {"GET", "/assets/index-", ".js"}, opMedia: {"GET", "/avatars/", ".png"}, opHealth: {"GET", "/health", ""},
	opPoll: {"GET", "/api/v1/notifications?after=", ""}, opToken: {"POST", "/api/v1/auth/token", ""}, opWrite: {"POST", "/api/v1/events", ""},
	opAdminList: {"GET", "/api/v1/admin/reports?page=", ""}, opAdminUser: {"GET", "/api/v1/admin/users/", "/reports"},
	opUpdates: {"GET", "/documents?modified_after=", ""}, opBackup: {"GET", "/api/v1/backups/", ".zip"},
	opLogout: {"POST", "/api/v1/auth/logout", ""}, opPage: {"GET", "/a/", ""},
}

var publicShapes = [ops]shape{
	opHome: {"GET", "/v1/", ""}, opList: {"GET", "/v1/stations?offset=", ""}, opCursor: {"GET", "/v1/stations?cursor=", ""},
	opItem: {"GET", "/v1/stations/", "/observations"}, opSearch: {"GET", "/v1/search?q=", ""}, opMe: {"GET", "/account/usage", ""},
	opMine: {"GET", "/v1/queries?page=", ""}, opObject: {"GET", "/v1/queries/", ""}, opAdd: {"PUT", "/v1/queries/draft", ""},
	opCreate: {"POST", "/v1/queries", ""}, opEmail: {"POST", "/account/email", ""}, opPayout: {"POST", "/account/billing", ""},
	opPassword: {"POST", "/account/password", ""}, opReset: {"POST", "/account/reset", ""}, opRegister: {"POST", "/account/register", ""},
	opExport: {"GET", "/v1/observations.csv?page=", "&limit=1000"}, opBulk: {"GET", "/v1/stations?limit=", "&page="},
	opAsset: {"GET", "/docs/assets/", ".js"}, opMedia: {"GET", "/tiles/6/", ".png"}, opHealth: {"GET", "/status", ""},
	opPoll: {"GET", "/v1/latest?since=", ""}, opToken: {"POST", "/oauth2/token", ""}, opWrite: {"POST", "/v1/reports", ""},
	opAdminList: {"GET", "/internal/queries?page=", ""}, opAdminUser: {"GET", "/internal/accounts/", "/queries"},
	opUpdates: {"GET", "/v1/observations?since=", "&limit=200"}, opBackup: {"GET", "/dumps/stations-", ".tar.gz"},
	opLogout: {"POST", "/account/logout", ""}, opPage: {"GET", "/stations/", ""},
}

// operations of GraphQL and methods of gRPC; "" is plain HTTP there, too.
var graphqlNames = [ops]string{
	opHome: "Home", opList: "ProductList", opCursor: "ProductFeed", opItem: "Product", opSearch: "Search", opMe: "Viewer", opMine: "MyOrders",
	opObject: "Order", opAdd: "AddToCart", opCreate: "Checkout", opEmail: "ChangeEmail", opPayout: "ChangePayout", opPassword: "ChangePassword",
	opReset: "RequestReset", opRegister: "Register", opExport: "OrderExport", opBulk: "ProductBulk", opPoll: "Notifications",
	opWrite: "TrackEvent", opAdminList: "AdminOrders", opAdminUser: "AdminCustomer", opUpdates: "ProductUpdates", opToken: "RefreshToken", opLogout: "Logout",
}

var grpcNames = [ops]string{
	opHome: "Catalog/GetHome", opList: "Catalog/ListProducts", opCursor: "Catalog/StreamProducts", opItem: "Catalog/GetProduct",
	opSearch: "Catalog/Search", opMe: "Accounts/GetMe", opMine: "Orders/ListOrders", opObject: "Orders/GetOrder", opAdd: "Carts/AddItem",
	opCreate: "Orders/CreateOrder", opEmail: "Accounts/ChangeEmail", opPayout: "Accounts/ChangePayout", opPassword: "Accounts/ChangePassword",
	opReset: "Accounts/RequestReset", opRegister: "Accounts/Register", opExport: "Orders/ExportOrders", opBulk: "Catalog/BulkProducts",
	opPoll: "Notifications/Poll", opToken: "Accounts/RefreshToken", opWrite: "Events/Track", opAdminList: "Admin/ListOrders",
	opAdminUser: "Admin/GetCustomer", opUpdates: "Catalog/ListUpdates", opLogout: "Accounts/Logout",
}

// call builds the request of an op about n. status is the answer; misses and
// refusals get the site's error bodies.
func (s *site) call(c *client, o op, n int64, status int) call {
	b := c.scratch[:0]
	switch o {
	case opHome, opMe, opAdd, opCreate, opEmail, opPayout, opPassword, opReset, opRegister, opHealth, opToken, opWrite, opLogout:
	case opItem, opPage:
		if s.kind == "saas" {
			b = append(b, uuidOf(s.key^uint64(n)<<1)...)
		} else {
			b = strconv.AppendInt(b, s.itemID(n), 10)
		}
	case opObject:
		if s.kind == "saas" {
			b = append(b, uuidOf(s.key^(uint64(n)<<1|1))...)
		} else {
			b = strconv.AppendInt(b, s.objectID(n), 10)
		}
	case opSearch:
		b = append(b, searched[uint64(n)%uint64(len(searched))]...)
	case opCursor, opAsset:
		b = append(b, hex16(hash2(s.key, uint64(n)))...)
	case opMedia:
		b = strconv.AppendInt(b, s.itemID(n), 10)
	case opBulk: // a limit and, above it, a page
		b = strconv.AppendInt(b, n%maxLimit, 10)
	default:
		b = strconv.AppendInt(b, n, 10)
	}
	arg := len(b)
	if o == opBulk {
		b = strconv.AppendInt(b, n/maxLimit, 10)
	}
	if o == opList && s.kind == "shop" {
		b = append(b, s.slug(n/7%24)...)
	}
	k := s.assemble(c, o, b, arg, status)
	base, ms := weightOf(o)
	k.bytes, k.ms = base, ms
	if o != opHealth {
		k.bytes = int64(float64(base) * sizeFactor(hash2(uint64(o), uint64(n))))
	}
	s.answer(&k)
	return k
}

// rawCall is call with any argument in place of an ordinary one.
func (s *site) rawCall(c *client, o op, arg string, status int) call {
	b := append(c.scratch[:0], arg...)
	k := s.assemble(c, o, b, len(b), status)
	base, ms := weightOf(o)
	k.bytes, k.ms = int64(float64(base)*sizeFactor(hashName(arg))), ms
	s.answer(&k)
	return k
}

// assemble makes method and path. b is scratch that holds the argument and,
// from arg on, what goes to the end of the path.
func (s *site) assemble(c *client, o op, b []byte, arg, status int) call {
	sh := s.shapeOf(o)
	k := call{op: o, method: sh.method, status: status, app: true}
	end := len(b)
	if name := s.faceName(o); name != "" {
		k.method, k.operation = "POST", name
		s.putBody(&k, o, name, string(b[:arg]))
		c.scratch = b
		return k
	}
	if s.kind == "saas" && o != opHealth && !strings.HasPrefix(sh.before, "/a") {
		b = append(b, "/api/v1/tenants/t"...)
		b = strconv.AppendInt(b, int64(c.tenant), 10)
	}
	b = append(b, sh.before...)
	b = append(b, b[:arg]...)
	b = append(b, sh.after...)
	b = append(b, b[arg:end]...)
	k.path = string(b[end:])
	c.scratch = b
	return k
}

// argumentOf is what the argument of an op is called in a body; "" for none.
func argumentOf(o op) string {
	switch o {
	case opItem, opObject, opMedia, opAdminUser:
		return "id"
	case opList, opMine, opExport, opAdminList:
		return "page"
	case opSearch:
		return "term"
	case opCursor:
		return "after"
	case opBulk:
		return "first"
	case opPoll, opUpdates:
		return "since"
	}
	return ""
}

// putBody makes the path and the body of a GraphQL or gRPC request.
func (s *site) putBody(k *call, o op, name, arg string) {
	arguments := "{}"
	if is := argumentOf(o); is != "" {
		arguments = `{"` + is + `":"` + arg + `"}`
	}
	if s.kind == "graphql" {
		k.path, k.body = "/graphql", `{"operationName":"`+name+`","variables":`+arguments+`}`
		k.object = "/graphql#" + name + "/" + arg
		return
	}
	k.path, k.body = "/shop.v1."+name, arguments
	k.object = k.path + "#id/" + arg
	_, k.operation, _ = strings.Cut(name, "/")
}

func (s *site) faceName(o op) string {
	switch s.kind {
	case "graphql":
		return graphqlNames[o]
	case "grpc":
		return grpcNames[o]
	}
	return ""
}

// answer gives a failing call the site's error body.
func (s *site) answer(k *call) {
	switch {
	case k.status == 304 || k.status == 204:
		k.bytes = 0
	case k.status == 404:
		k.bytes, k.ms = missBytes-420+int64(len(k.path)%7), 4
	case k.status == 401, k.status == 403:
		k.bytes, k.ms = 94, 3
	case k.status == 429:
		k.bytes, k.ms = 61, 1
	case k.status == 400, k.status == 422, k.status == 409:
		k.bytes, k.ms = 133, 6
	case k.status >= 500:
		k.bytes, k.ms = 310, 400
	}
}

// wire puts the face on: GraphQL and gRPC answer 200 and say in the body
// whether they failed.
func (s *site) wire(k *call) {
	if k.operation == "" || !k.app || k.status == 429 || k.status >= 502 {
		return
	}
	k.appStatus = true
	if k.status >= 400 {
		k.appFailed, k.refused = true, k.refused || k.status == 401
		k.status = 200
	}
}

// miss is a request for a path that the site does not have.
func (s *site) miss(method, path string) call {
	k := call{method: method, path: path, status: 404, bytes: missBytes, ms: 2}
	if s.soft {
		k.status, k.bytes = 200, softBytes
	}
	return k
}

// login builds the requests of a login of name.
func (s *site) login(c *client, name string, works bool) []call {
	k := call{method: "POST", path: "/api/login", login: name, status: 200, bytes: 870, ms: 210, refused: !works, app: true}
	switch s.kind {
	case "saas":
		k.path = "/api/v1/auth/login"
	case "public":
		k.path = "/account/login"
	case "graphql":
		k.path, k.operation = "/graphql", "Login"
	case "grpc":
		k.path, k.operation = "/shop.v1.Accounts/Login", "Login"
	}
	if s.hidden {
		k.login = ""
	} else if s.kind == "graphql" {
		k.body = `{"operationName":"Login","variables":{"email":"` + name + `","password":"*"}}`
	} else if s.kind == "grpc" {
		k.body = `{"email":"` + name + `","password":"*"}`
	}
	switch {
	case s.way == "size":
		k.bytes = 5200 + int64(c.r.IntN(400))
		if !works {
			k.bytes = failBytes + int64(c.r.IntN(11))
		}
	case s.way == "redirect":
		k.status, k.bytes = 302, 0
		if !works {
			k.status, k.bytes = 200, failBytes+int64(c.r.IntN(11))
		}
	case s.way == "error":
		k.status, k.bytes = 302, 0
		if !works {
			page := call{method: "GET", path: "/login?error=1", status: 200, bytes: failBytes, ms: 9, aside: true}
			return []call{k, page}
		}
	case !works:
		k.status, k.bytes = 401, 74
	}
	return []call{k}
}

// sizeFactor is log-normal with a sigma of 0.45 around 1.
func sizeFactor(h uint64) float64 { return math.Exp(.45 * bell(h)) }
