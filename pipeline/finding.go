package pipeline

// Nats is evidence in natural-log units, fixed point: 2^-20 nats. Sums of
// fixed-point numbers are the same in any order and on any machine.
type Nats int64

// Nat is one natural-log unit.
const Nat Nats = 1 << 20

// The levels of evidence: ln 1e8 pages, ln 1e6 is worth a review.
const (
	PageAt   Nats = 19315484 // ln 1e8 = 18.42068
	ReviewAt Nats = 14486613 // ln 1e6 = 13.81551
)

// Float returns n in nats, for people.
func (n Nats) Float() float64 { return float64(n) / float64(Nat) }

// Finding is one detector's case against one principal, whole: a later
// finding of the same ID replaces an earlier one. detect emits one when a case
// opens, when it changes in kind (first success, page level) and once a minute
// of event time while it moves.
type Finding struct {
	ID       string    `json:"id"`   // hash of family, principal, time of the first counted event
	Seq      uint64    `json:"seq"`  // of its producer; orders findings of one time
	Time     Time      `json:"time"` // event time at which it was emitted
	Detector string    `json:"detector"`
	Level    string    `json:"level"` // client, account, key, cohort, endpoint, campaign
	Who      Principal `json:"principal"`

	Onset, First, Last Time
	Score              Nats            `json:"score"`
	Signals            []FindingSignal `json:"signals"` // nats sum to Score
	Outcome            Outcome         `json:"outcome"`
	Endpoint           Endpoint        `json:"endpoint"`

	// What the score means for the reader; see alerts for how severity follows.
	Facts FindingFacts `json:"facts"`

	Title          string   `json:"title"`
	Reason         string   `json:"reason"`
	Next           []string `json:"next"`
	BenignIf       []string `json:"benign_if"`
	WouldNotFireIf string   `json:"would_not_fire_if"`
	Attack         []string `json:"attack"`
	OWASP          []string `json:"owasp_api"`
	OAT            []string `json:"oat"`

	Addresses      []string          `json:"addresses"` // sorted, at most 16
	AddressesTotal int               `json:"addresses_total"`
	Accounts       []AffectedAccount `json:"accounts"`
	Objects        []string          `json:"objects"`
	Truncated      bool              `json:"truncated"` // Accounts or Objects are not all
	Members        []Principal       `json:"members"`   // of a campaign, at most 64
	MembersTotal   int               `json:"members_total"`
	Predicate      string            `json:"predicate"` // what a campaign's requests have in common, in words
	Estimate       *Estimate         `json:"estimate"`  // nil where nothing is estimated
	Agents         []string          `json:"agents"`    // at most 4, in order of first use
	JA4            []string          `json:"ja4"`
	ASN            string            `json:"asn"`        // of the principal's addresses, as far as they agree: "AS64496"
	Country        string            `json:"country"`    // ISO 3166, two letters
	Network        string            `json:"network"`    // hosting, cgnat, cdn, corporate, crawler, or unknown
	People         [2]int            `json:"people"`     // how many people may be behind the principal; 0,0 unknown
	FirstSeen      Time              `json:"first_seen"` // of the principal
	Rate5m         int64             `json:"rate_5m"`    // requests in the five minutes before Last
	Exemplars      []Exemplar        `json:"exemplars"`  // at most 8
	Sampled        float64           `json:"sampled"`    // share of the traffic the source keeps; 1 all
	Late           int64             `json:"late"`       // this principal's events that came too late to count
	Edition        string            `json:"edition"`    // hash of the edition in force
	Labels         map[string]string `json:"labels"`
	Backfill       bool              `json:"backfill"` // history: not sent to sinks
	Shadow         bool              `json:"shadow"`   // of a detector on trial: stored, never an alert
	// Supersedes is the detector whose case this one took over when its shape
	// became known; "" if none.
	Supersedes string `json:"supersedes"`
	// Shares are what single endpoints add to the score by refusing: what everybody
	// is refused, a notice takes out again. In order of Since, at most 16.
	Shares []EndpointShare `json:"shares,omitempty"`
	Aside  bool            `json:"aside,omitempty"` // of requests that a suppression set aside; see Silences
	Wide   bool            `json:"wide"`            // of correlate: beside a finding of detect's with the same detector, not in its place

	Place Place `json:"-"` // in the order of all findings
	Slice int   `json:"-"` // of detect that makes it; see SliceOf
}

// Estimate is how many of a campaign's requests were malicious, with a 90 %
// interval.
type Estimate struct {
	Attempts int64 `json:"attempts"`
	Low      int64 `json:"low"`
	High     int64 `json:"high"`
}

// EndpointShare is what refusals at one endpoint, within some minutes, add to a
// finding's score.
type EndpointShare struct {
	Endpoint    Endpoint `json:"endpoint"`
	Since, Last Time
	Nats        Nats `json:"nats"`
}

// FindingFacts is what severity is decided from.
type FindingFacts struct {
	Succeeded     bool `json:"succeeded"`     // success is confirmed, not guessed
	CanSucceed    bool `json:"can_succeed"`   // a real login or a private object is the target
	Opportunistic bool `json:"opportunistic"` // internet background: nothing here answered it
	Notice        bool `json:"notice"`        // context: verified bot, flash crowd, health
	Excuses       bool `json:"excuses"`       // a notice that the endpoint refuses everybody, from Onset to Last
}

// FindingSignal is one line of the evidence.
type FindingSignal struct {
	Name     string   `json:"name"`
	Observed float64  `json:"observed"`
	Expected float64  `json:"expected"`
	Count    int64    `json:"count"`
	Nats     Nats     `json:"nats"`
	Baseline Baseline `json:"baseline"`
}

// Baseline says what a signal was compared with.
type Baseline struct {
	Kind  string `json:"kind"` // cohort, own, prior
	N     int64  `json:"n"`    // clients or events behind it
	Since *Time  `json:"since"`
}

// Outcome is what the requests of a case came to. A nil number is unknown.
type Outcome struct {
	Requests  int64  `json:"requests"`
	Attempted int64  `json:"attempted"`
	Succeeded *int64 `json:"succeeded"`
	Blocked   *int64 `json:"blocked"`
	BlockedBy string `json:"blocked_by"`
	Bytes     *int64 `json:"bytes"`
	Objects   int64  `json:"objects"`
	Accounts  *int64 `json:"accounts"`
	Basis     string `json:"basis"` // configured, learned, status, unknown
}

// AffectedAccount is an account that a case touched. Name is a token until an
// output that may show names opens it.
type AffectedAccount struct {
	Name    string `json:"name"`
	Outcome string `json:"outcome"` // success, failure, unknown
	Time    Time   `json:"time"`
	Session string `json:"session"`
}

// Endpoint is a template on a host; Host is empty where logs do not carry it.
type Endpoint struct {
	Method   string `json:"method"`
	Host     string `json:"host"`
	Template string `json:"template"`
}

// Exemplar is one request behind a case, enough to find it in the source.
type Exemplar struct {
	Time   Time   `json:"time"`
	IP     string `json:"ip"`
	Method string `json:"method"`
	Path   string `json:"path"`
	Status int    `json:"status"`
	Bytes  *int64 `json:"bytes"`
	Agent  string `json:"agent"`
	Source string `json:"source"`
}
