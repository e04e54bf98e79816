// Package simulate makes API traffic with ground truth: ordinary clients of many
// kinds, among them those that detectors mistake for attackers, and attacks at
// any rate, from any number of sources, with the evasions attackers use. It
// sends nothing anywhere: it makes log records.
//
// A scenario names a site, the harmless clients and the attacks. The same
// scenario and seed give the same events, whatever the order in which the
// scenario lists its clients; an attack that is added leaves the harmless
// traffic as it was. Floating point is used for chance, so the bytes are
// promised for one processor architecture.
//
// Addresses are from blocks that belong to nobody (240.0.0.0/4 and
// 2001:db8::/32), but for a verified crawler's and a load balancer's; ASNs are
// from the private range.
package simulate

import (
	"time"
)

// Event is one request. Empty strings mean that the log does not know.
type Event struct {
	Time      time.Time // UTC, whole microseconds
	IP        string
	Method    string
	Host      string
	Path      string // with the query
	Agent     string
	Referer   string
	Status    int
	Bytes     int64
	Duration  time.Duration
	User      string // the account that the server accepted
	APIKey    string
	Session   string
	LoginUser string // the account that a login tried
	JA4       string
	Country   string
	ASN       uint32
	Operation string // GraphQL operation, gRPC method
	AppStatus bool   // the application said in its answer whether it failed
	AppFailed bool   // and it did
	AppCode   int    // the status that the failure amounts to; 0 none
	// ContentBody is the beginning of a JSON request body, where the path does
	// not say what is asked for.
	ContentBody string
	Actor       string // the harmless group's name, or the episode
}

// Label is the truth about one group of clients: an episode of abuse, or
// harmless clients. The JSON is that of the labels files weir reads.
type Label struct {
	Episode    string     `json:"episode,omitempty"`
	Type       string     `json:"type,omitempty"` // a detector's name
	Benign     string     `json:"benign,omitempty"`
	Profile    string     `json:"profile"` // the benign profile, or the attack's variant
	Principals []string   `json:"principals"`
	Start      *time.Time `json:"start,omitempty"` // of the first request of an episode
	End        *time.Time `json:"end,omitempty"`
	Note       string     `json:"note,omitempty"`
	Attempts   int64      `json:"attempts,omitempty"` // requests that are the attack itself
	Reached    *Reached   `json:"reached,omitempty"`
}

// Reached is what an episode got. Lists hold the first maxReached entries, the
// totals are whole.
type Reached struct {
	Objects       []string `json:"objects"` // paths, or operation and id where the path does not say
	ObjectsTotal  int64    `json:"objects_total"`
	Accounts      []string `json:"accounts"` // of victims; an attacker's own are not counted
	AccountsTotal int64    `json:"accounts_total"`
	LoginsWorked  int64    `json:"logins_worked"` // into accounts of victims
}

// maxReached bounds the lists of Reached, maxLabelled the accounts that a label
// names as principals: memory follows clients, not events.
const (
	maxReached  = 1000
	maxLabelled = 100_000
)
