package main

import (
	"slices"
	"time"

	"weir/bench/simulate"
)

// evalFloor is one attack whose floor is measured: the slowest and quietest form
// of it that weir promises to find, or a form that shows where the promise ends.
type evalFloor struct {
	name    string
	want    string // what is promised, in words; "" for a form that is only reported
	site    string
	length  time.Duration
	clients int // of the crowd around it
	attack  simulate.Attack
	change  func(*simulate.Scenario)
}

// poisonedFloors are the attacks whose floor is measured again after poisoned
// training days.
func poisonedFloors() []string {
	return []string{
		"foreign documents, random UUIDs, 1 a minute",
		"orders guessed, nine in ten refused",
		"ordinary words, 1 a minute",
		"one account, 10,000 passwords, the log names no account",
		"stuffing, one source, 12 a minute",
		"the catalogue, at human pace",
		"payloads of all kinds, 1 a second",
	}
}

// withPoisoned appends what poisonedFloors names.
func withPoisoned(floors []evalFloor) (all []floorResult) {
	for _, f := range floors {
		all = append(all, floorResult{evalFloor: f})
	}
	for _, f := range floors {
		if slices.Contains(poisonedFloors(), f.name) {
			of := f.name
			f.name, f.want = f.name+", poisoned training", "+ 20 %"
			all = append(all, floorResult{evalFloor: f, of: of})
		}
	}
	return all
}

// poison are the attackers of poisoned training days, in a crowd of evalClients.
func poison() []simulate.Attack {
	start := 6 * time.Hour
	return []simulate.Attack{
		{Name: "walk", Type: "enum.object", Variant: "sequential", Sources: 2, Rate: 1.0 / 60, Requests: 400, Start: start, Success: .5, Evade: simulate.Evade{Shuffle: true, Jitter: 1}},
		{Name: "probe", Type: "probe.path", Variant: "guesses", Sources: 2, Rate: 1.0 / 60, Requests: 400, Start: start, Success: 0},
		{Name: "guess", Type: "auth.bruteforce", Rate: 1, Requests: 400, Start: start, Success: 0},
		{Name: "stuff", Type: "auth.stuffing", Sources: 2, Rate: .05, Requests: 400, Start: start, Success: .01},
		{Name: "crawl", Type: "scrape.crawl", Variant: "human", Rate: 1.0 / 10, Requests: 3000, Start: start, Success: -1},
		{Name: "inject", Type: "inject.probe", Rate: 1.0 / 60, Requests: 120, Start: start, Success: -1},
	}
}

// evalAccounts is how many accounts a site has whose objects are looked at.
const evalAccounts = 1600

const (
	perDay  = 1.0 / 86400
	perHour = 1.0 / 3600
	aDay    = 24 * time.Hour
)

// evalFloors lists the attacks, family by family.
func evalFloors() []evalFloor {
	hidden := func(s *simulate.Scenario) { s.Site.HideLoginUser = true }
	// Ownership is learned from the owners: a week of a site whose accounts come
	// back.
	known := func(s *simulate.Scenario) { s.Site.Accounts = evalAccounts }
	// As most logs are.
	bare := func(s *simulate.Scenario) { s.Site.Accounts, s.Site.HideBodies = evalAccounts, true }
	return []evalFloor{
		{
			"foreign orders, ids in a row, 1 a second", "≤ 10 objects", "shop", 6 * aDay, 300,
			simulate.Attack{Type: "enum.object", Variant: "sequential", Rate: 1, Requests: 200, Start: 5 * aDay, Success: 1},
			known,
		},
		{
			"foreign orders, shuffled, 1 a minute", "≤ 10 objects", "shop", 6 * aDay, 300,
			simulate.Attack{Type: "enum.object", Variant: "sequential", Rate: 1.0 / 60, Requests: 200, Start: 5 * aDay, Success: 1, Evade: simulate.Evade{Shuffle: true, Jitter: 1}},
			known,
		},
		{
			"foreign documents, random UUIDs, 1 a minute", "≤ 10 objects", "saas", 16 * aDay, 300,
			simulate.Attack{Type: "enum.object", Variant: "leaked", Rate: 1.0 / 60, Requests: 200, Start: 15 * aDay, Success: 1, Evade: simulate.Evade{Shuffle: true, Jitter: 1}},
			known,
		},
		{
			"the same, every other request for an own object", "", "saas", 6 * aDay, 300,
			simulate.Attack{Type: "enum.object", Variant: "leaked", Rate: 1.0 / 60, Requests: 200, Start: 5 * aDay, Success: 1, Evade: simulate.Evade{Shuffle: true, Own: .5}},
			known,
		},
		{
			"orders guessed, nine in ten refused", "", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "enum.object", Variant: "sequential", Rate: .2, Requests: 200, Start: 3 * time.Hour, Success: .1, Evade: simulate.Evade{Shuffle: true}},
			nil,
		},
		{
			"200 clients tile one range of orders, 5 each", "one campaign", "shop", 12 * time.Hour, 300,
			simulate.Attack{Type: "enum.object", Variant: "sequential", Sources: 200, Rate: 5 * perHour / 4, Requests: 1000, Start: 4 * time.Hour, Success: 1},
			nil,
		},
		{
			"a GraphQL API, foreign orders", "≤ 10 objects", "graphql", 6 * aDay, 300,
			simulate.Attack{Type: "enum.object", Rate: .1, Requests: 200, Start: 5 * aDay, Success: 1},
			known,
		},
		{
			"a GraphQL API, orders guessed, nine in ten refused", "as on the shop", "graphql", 6 * time.Hour, 300,
			simulate.Attack{Type: "enum.object", Rate: .2, Requests: 200, Start: 3 * time.Hour, Success: .1, Evade: simulate.Evade{Shuffle: true}},
			nil,
		},
		{
			"a GraphQL API, foreign orders, the log has no bodies", "not detectable", "graphql", 6 * aDay, 300,
			simulate.Attack{Type: "enum.object", Rate: .1, Requests: 200, Start: 5 * aDay, Success: 1},
			bare,
		},
		{
			"a gRPC API, foreign orders", "≤ 10 objects", "grpc", 6 * aDay, 300,
			simulate.Attack{Type: "enum.object", Rate: .1, Requests: 200, Start: 5 * aDay, Success: 1},
			known,
		},
		{
			"a gRPC API, orders guessed, nine in ten refused", "as on the shop", "grpc", 6 * time.Hour, 300,
			simulate.Attack{Type: "enum.object", Rate: .2, Requests: 200, Start: 3 * time.Hour, Success: .1, Evade: simulate.Evade{Shuffle: true}},
			nil,
		},
		{
			"a gRPC API, foreign orders, the log has no bodies", "not detectable", "grpc", 6 * aDay, 300,
			simulate.Attack{Type: "enum.object", Rate: .1, Requests: 200, Start: 5 * aDay, Success: 1},
			bare,
		},

		{
			"which accounts exist, by the login's answer", "", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "enum.user", Variant: "login", Rate: .5, Requests: 300, Start: 3 * time.Hour, Success: -1},
			nil,
		},
		{
			"which accounts exist, by the password reset", "", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "enum.user", Variant: "reset", Rate: .5, Requests: 300, Start: 3 * time.Hour, Success: -1},
			nil,
		},

		{
			"word list, 5 a second", "≤ 17 misses or 3 known-bad paths", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "probe.path", Variant: "wordlist", Rate: 5, Requests: 300, Start: 3 * time.Hour, Success: 0},
			nil,
		},
		{
			"word list, 8 a day", "≤ 17 misses or 3 known-bad paths", "shop", 8 * aDay, 40,
			simulate.Attack{Type: "probe.path", Variant: "wordlist", Rate: 8 * perDay, Requests: 60, Start: time.Hour, Success: 0},
			nil,
		},
		{
			"ordinary words, 1 a minute", "≤ 17 misses", "shop", 12 * time.Hour, 300,
			simulate.Attack{Type: "probe.path", Variant: "guesses", Rate: 1.0 / 60, Requests: 200, Start: 3 * time.Hour, Success: 0},
			nil,
		},
		{
			"word list on a site that answers 200 to everything", "", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "probe.path", Variant: "wordlist", Rate: 1, Requests: 300, Start: 3 * time.Hour, Success: 0},
			func(s *simulate.Scenario) { s.Site.Soft404 = true },
		},

		{
			"one account, 10,000 passwords, the log names no account", "≤ 30 attempts", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "auth.bruteforce", Rate: 2, Requests: 10000, Start: 3 * time.Hour, Success: 0},
			hidden,
		},
		{
			"one account, a try a minute, the log names it", "", "shop", 12 * time.Hour, 300,
			simulate.Attack{Type: "auth.bruteforce", Rate: 1.0 / 60, Requests: 300, Start: 3 * time.Hour, Success: 0},
			nil,
		},
		{
			"one account, in use or not, a try a minute by a stranger to it", "", "shop", 12 * aDay, 60,
			simulate.Attack{Type: "auth.bruteforce", Rate: 1.0 / 60, Requests: 300, Start: 11 * aDay, Success: 0},
			func(s *simulate.Scenario) { s.Site.Accounts = 900 },
		},
		{
			"one account from 200 addresses in turn", "", "shop", 12 * time.Hour, 300,
			simulate.Attack{Type: "auth.bruteforce", Rate: 1.0 / 30, Requests: 600, Start: 3 * time.Hour, Success: 0, Evade: simulate.Evade{Addresses: 200}},
			nil,
		},
		{
			"stuffing, one source, 12 a minute", "≤ 20 accounts", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "auth.stuffing", Rate: .2, Requests: 300, Start: 3 * time.Hour, Success: .01},
			nil,
		},
		{
			"stuffing, one source, 10 a day", "≤ 20 accounts", "shop", 6 * aDay, 40,
			simulate.Attack{Type: "auth.stuffing", Rate: 10 * perDay, Requests: 55, Start: time.Hour, Success: 0},
			nil,
		},
		{
			"stuffing, one source, 2 a day", "≤ 40 accounts", "shop", 30 * aDay, 15,
			simulate.Attack{Type: "auth.stuffing", Rate: 2 * perDay, Requests: 58, Start: time.Hour, Success: 0},
			nil,
		},
		{
			"stuffing with one login in five into own accounts", "", "shop", 12 * time.Hour, 300,
			simulate.Attack{Type: "auth.stuffing", Rate: .05, Requests: 300, Start: 3 * time.Hour, Success: 0, Canary: .2},
			nil,
		},
		{
			"stuffing, failures answer 200", "", "saas", 12 * time.Hour, 300,
			simulate.Attack{Type: "auth.stuffing", Rate: .05, Requests: 300, Start: 3 * time.Hour, Success: .02},
			nil,
		},
		{
			"stuffing, 300 sources of one tool, 3 each", "one campaign", "shop", aDay, 600,
			simulate.Attack{Type: "auth.stuffing", Variant: "fingerprint", Sources: 300, Rate: 3 * perDay, Requests: 900, Start: time.Hour, Success: .01},
			nil,
		},
		{
			"stuffing, 300 sources that look like people, 3 each", "", "shop", aDay, 2000,
			simulate.Attack{Type: "auth.stuffing", Variant: "diffuse", Sources: 300, Rate: 3 * perDay, Requests: 900, Start: time.Hour, Success: .01},
			nil,
		},
		{
			"spraying, one source, four rounds", "", "shop", 12 * time.Hour, 300,
			simulate.Attack{Type: "auth.spraying", Rate: .1, Requests: 200, Start: 2 * time.Hour, Success: .01, Rounds: 4, Every: 2 * time.Hour},
			nil,
		},
		{
			"takeover after stuffing", "", "shop", 12 * time.Hour, 300,
			simulate.Attack{Type: "auth.takeover", Variant: "stuffed", Start: 8 * time.Hour, Success: -1},
			nil,
		},
		{
			"a stolen session", "", "shop", 15 * aDay, 60,
			simulate.Attack{Type: "auth.takeover", Variant: "session", Start: 14*aDay + 12*time.Hour, Success: -1},
			nil,
		},

		{
			"the catalogue, 2 a second", "", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "scrape.crawl", Variant: "fast", Rate: 2, Requests: 3000, Start: 2 * time.Hour, Success: -1},
			nil,
		},
		{
			"the catalogue, at human pace", "within a day at 10 × the cohort's p99", "shop", 2 * aDay, 200,
			simulate.Attack{Type: "scrape.crawl", Variant: "human", Rate: 1.0 / 20, Requests: 6000, Start: time.Hour, Success: -1},
			nil,
		},
		{
			"the catalogue, by 50 clients", "one campaign", "shop", aDay, 300,
			simulate.Attack{Type: "scrape.crawl", Variant: "human", Sources: 50, Rate: 1.0 / 100, Requests: 9000, Start: time.Hour, Success: -1},
			nil,
		},
		{
			"the catalogue, by 500 clients of one tool, 18 items each", "one campaign", "shop", aDay, 300,
			simulate.Attack{Type: "scrape.crawl", Variant: "fast", Sources: 500, Rate: 1.0 / 600, Requests: 9000, Start: 6 * time.Hour, Success: -1},
			nil,
		},
		{
			"a public read API, cursor pages", "", "public", 12 * time.Hour, 300,
			simulate.Attack{Type: "scrape.crawl", Variant: "cursor", Rate: .5, Requests: 3000, Start: 2 * time.Hour, Success: -1},
			nil,
		},

		{
			"a leaked key", "", "saas", 15 * aDay, 60,
			simulate.Attack{Type: "key.misuse", Variant: "leaked", Start: 14*aDay + 12*time.Hour, Success: -1},
			nil,
		},
		{
			"a leaked key, half of what it tries is refused", "", "saas", 15 * aDay, 60,
			simulate.Attack{Type: "key.misuse", Variant: "scopes", Start: 14*aDay + 12*time.Hour, Success: -1},
			nil,
		},
		{
			"limit=100000", "", "saas", aDay, 300,
			simulate.Attack{Type: "data.exposure", Variant: "limit", Start: 6 * time.Hour, Success: -1},
			nil,
		},
		{
			"all pages of an export", "", "saas", aDay, 300,
			simulate.Attack{Type: "data.exposure", Variant: "export", Start: 6 * time.Hour, Success: -1},
			nil,
		},
		{
			"payloads of all kinds, 1 a second", "", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "inject.probe", Rate: 1, Requests: 120, Start: 3 * time.Hour, Success: -1},
			nil,
		},
		{
			"SQL in parameters, 1 a minute", "", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "inject.probe", Variant: "sqli", Rate: 1.0 / 60, Requests: 120, Start: time.Hour, Success: -1},
			nil,
		},
		{
			"a flood from two clients", "", "shop", 6 * time.Hour, 300,
			simulate.Attack{Type: "volume.flood", Rate: 50, Duration: 2 * time.Minute, Sources: 2, Start: 3 * time.Hour, Success: 1},
			nil,
		},
	}
}

// evalProfile is one kind of harmless client.
type evalProfile struct {
	profile string
	site    string
	count   int // 0: as the profile has it
	// remedy is what keeps it from being taken for an attack, or would.
	remedy string
}

// evalProfiles lists what detectors could mistake for an attack.
func evalProfiles() []evalProfile {
	return []evalProfile{
		{"people", "shop", 300, "none needed"},
		{"people", "saas", 300, "none needed"},
		{"people", "public", 300, "none needed"},
		{"people", "graphql", 300, "none needed"},
		{"people", "grpc", 300, "none needed"},
		{"office-nat", "shop", 500, "counts are per person, estimated from credentials and agents"},
		{"mobile-cgnat", "shop", 400, "as office-nat; evidence of a shared address halves in two days"},
		{"private-relay", "shop", 100, "as office-nat"},
		{"admin", "shop", 0, "`identity.known_clients`, or let it use an account: what it always read is its own null"},
		{"support", "shop", 0, "as admin; the edition names who reads what many own, day by day: review at most"},
		{"partner-sync", "shop", 0, "`identity.known_clients`: what it takes is then a notice"},
		{"batch", "shop", 0, "as partner-sync"},
		{"uptime", "shop", 0, "none needed: asks for what exists, and always the same"},
		{"load-balancer", "shop", 0, "none needed"},
		{"crawler", "shop", 0, "its address is checked against what its publisher says: a notice"},
		{"unfurlers", "shop", 60, "none needed: a page each"},
		{"backups", "saas", 0, "ranges count once for each object; `identity.known_clients`"},
		{"spa-polling", "saas", 20, "repeats count for nothing"},
		{"offline-retry", "saas", 80, "repeats of one attempt count for nothing, and bursts wait for five busy seconds"},
		{"refresh-storm", "saas", 60, "as offline-retry"},
		{"token-expiry", "saas", 0, "401 says that the caller was refused, not the object"},
		{"challenge", "saas", 15, "as token-expiry"},
		{"stuck-client", "shop", 0, "tries 4.5 s apart and more stay at review; change its password"},
		{"key-fleet", "saas", 1000, "a key that is new somewhere every day has that as its null"},
		{"iot", "public", 300, "as spa-polling"},
		{"flash-crowd", "shop", 600, "first contacts of many with one item are a notice, on nobody"},
		{"sale-day", "shop", 300, "failures are compared with the endpoint's own by the hour"},
		{"load-test", "shop", 0, "volume alone stays at review; `identity.known_clients`"},
		{"bad-deploy", "shop", 100, "a rise that everybody shares is a notice on the endpoint"},
		{"broken-link", "shop", 100, "misses at an endpoint that refuses everybody are taken out of the score, and a notice says so"},
		{"mass-logout", "shop", 150, "logins that still work tell it from an attack"},
		{"price-watch", "shop", 0, "`identity.known_clients`, or a rate limit: it is a scraper that you agreed to"},
	}
}
