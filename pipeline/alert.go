package pipeline

// Alert is one revision of an incident as the outside sees it: the JSON of
// "weir.alert/1", field for field and in this order. Every revision repeats the
// whole object. Lists are never null; what is not knowable is null, never 0.
type Alert struct {
	Schema   string      `json:"schema"`
	ID       string      `json:"id"`
	Revision int         `json:"revision"`
	Status   string      `json:"status"` // open, resolved
	Change   AlertChange `json:"change"`
	Detector string      `json:"detector"`
	Severity string      `json:"severity"` // info low medium high critical
	Tier     string      `json:"tier"`     // page review context
	Title    string      `json:"title"`
	Reason   string      `json:"reason"`

	Next           []string `json:"next"`
	BenignIf       []string `json:"benign_if"`
	WouldNotFireIf string   `json:"would_not_fire_if"`

	Level          string      `json:"level"`
	Principal      Principal   `json:"principal"`
	Addresses      []string    `json:"addresses"`
	AddressesTotal int         `json:"addresses_total"`
	Members        []Principal `json:"members"`
	MembersTotal   int         `json:"members_total"`
	Predicate      string      `json:"predicate"` // what a campaign's requests have in common
	Estimate       *Estimate   `json:"estimate"`  // of a campaign's malicious requests

	Window    AlertWindow   `json:"window"`
	Ongoing   bool          `json:"ongoing"`
	Rate5m    int64         `json:"rate_5m"`
	Score     AlertScore    `json:"score"`
	Signals   []AlertSignal `json:"signals"`
	Outcome   Outcome       `json:"outcome"`
	Affected  AlertAffected `json:"affected"`
	Context   AlertContext  `json:"context"`
	Exemplars []Exemplar    `json:"exemplars"`
	Endpoint  Endpoint      `json:"endpoint"`
	Quality   AlertQuality  `json:"quality"`
	Labels    AlertLabels   `json:"labels"`
	Attack    []string      `json:"attack"`
	OWASP     []string      `json:"owasp_api"`
	OAT       []string      `json:"oat"`
	Campaign  string        `json:"campaign"`
	Versions  AlertVersions `json:"versions"`
	Envelope  AlertEnvelope `json:"envelope"`
}

// AlertSchema is the value of Alert.Schema.
const AlertSchema = "weir.alert/1"

// AlertChange says what this revision adds to the one before.
type AlertChange struct {
	Kind string `json:"kind"` // opened grew succeeded new_endpoint still_active resolved reopened
	Text string `json:"text"`
}

// AlertWindow is when it happened, in event time.
type AlertWindow struct {
	Onset      Time `json:"onset"`
	First      Time `json:"first"`
	Last       Time `json:"last"`
	DetectedAt Time `json:"detected_at"`
}

// AlertScore is the evidence in nats and what it means as odds.
type AlertScore struct {
	Nats     float64   `json:"nats"`
	PageAt   float64   `json:"page_at"`
	ReviewAt float64   `json:"review_at"`
	Odds     AlertOdds `json:"odds"`
}

// AlertOdds is the chance of this much evidence from an ordinary client.
type AlertOdds struct {
	OneIn float64 `json:"one_in"`
	Unit  string  `json:"unit"`
	Basis string  `json:"basis"` // calibrated, bound
}

// AlertSignal is one line of evidence; nats sum to the score's.
type AlertSignal struct {
	Name     string   `json:"name"`
	Observed float64  `json:"observed"`
	Expected float64  `json:"expected"`
	Count    int64    `json:"count"`
	Nats     float64  `json:"nats"`
	Baseline Baseline `json:"baseline"`
}

// AlertAffected lists what was touched.
type AlertAffected struct {
	Accounts  []AffectedAccount `json:"accounts"`
	Objects   []string          `json:"objects"`
	Truncated bool              `json:"truncated"`
}

// AlertContext is what is known of the client.
type AlertContext struct {
	ASN         string   `json:"asn"`
	Country     string   `json:"country"`
	Network     string   `json:"network"` // hosting cgnat cdn corporate crawler, or empty
	People      *[2]int  `json:"people"`
	Agents      []string `json:"agents"`
	JA4         []string `json:"ja4"`
	FirstSeen   Time     `json:"first_seen"`
	PriorAlerts int      `json:"prior_alerts"`
}

// AlertQuality says how far the data can be trusted.
type AlertQuality struct {
	Identity string  `json:"identity"` // address, session, key, account, subject
	Sampled  float64 `json:"sampled"`
	Late     int64   `json:"late"`
	Lost     int64   `json:"lost"`
}

// AlertLabels are the source's labels; the three named ones are always there.
type AlertLabels map[string]string

// AlertVersions ties an alert to what produced it.
type AlertVersions struct {
	Weir    string `json:"weir"`
	Config  string `json:"config"`
	Edition string `json:"edition"`
}

// AlertEnvelope is what changes after the fact; no part of byte comparisons.
type AlertEnvelope struct {
	Triage  map[string]any `json:"triage"`
	Links   map[string]any `json:"links"`
	Silence map[string]any `json:"silence"`
}

// Suppressed reports whether a suppression keeps this revision from sinks.
func (a *Alert) Suppressed() bool {
	id, silent := a.Silent()
	return silent && id != ""
}

// Silent reports whether this revision is kept from sinks, by what its envelope
// says; id is the suppression that covers it, "" for none, also where it was
// pierced.
func (a *Alert) Silent() (id string, silent bool) {
	id, _ = a.Envelope.Silence["id"].(string)
	silent, _ = a.Envelope.Silence["silent"].(bool)
	return id, silent
}
