package pipeline

// Signal is what detect tells correlate about one request: enough for a view
// wider than one principal, small enough to send for first contacts only. It
// travels by its meeting key.
type Signal struct {
	Seq     uint64      `json:"seq"` // of its producer: orders signals of one time
	Time    Time        `json:"time"`
	Meeting Meeting     `json:"meeting"`
	Key     uint64      `json:"key"`    // hash of what is met: an address, an account ...
	Sender  uint64      `json:"sender"` // owner hash of the principal that sends
	Score   Nats        `json:"score"`  // the sender's evidence so far
	Facts   Observation `json:"facts"`
}

// Meeting names the kind of place where signals meet.
type Meeting string

// The meeting keys.
const (
	MeetResource Meeting = "resource"
	MeetAccount  Meeting = "account"
	MeetAddress  Meeting = "address"
	MeetKey      Meeting = "key"
	MeetCohort   Meeting = "cohort"
	MeetEndpoint Meeting = "endpoint"
	MeetClass    Meeting = "class"
)

// Observation is a request reduced to what detectors read: fixed size, no
// pointers, made once per request by detect from the request and the edition.
type Observation struct {
	Time     Time   // effective
	Owner    uint64 // hash of the principal this observation is evidence about
	Endpoint uint64 // hash of method, host and template
	Template uint64 // hash of host and template, method left out
	Path     uint64 // hash of host and normalised path
	Object   uint64 // hash of the id slots' raw values and what stands before them; 0 none
	User     uint64 // hash of the login's account; 0 not a login or not visible
	Agent    uint64
	Number   int64  // numeric value of the last id slot, when Has(ObsNumber)
	Bytes    int64  // -1 unknown
	Item     uint64 // what is read: the path, with its page number
	Rarity   Nats   // how much rarer benign clients ask this path than scanners do
	Tail     Nats   // how much likelier a crawler reads this item than a person does
	Page     int32  // page, offset or cursor number in the query; -1 none
	Status   uint16
	Class    EndpointClass
	Flags    ObservationFlags
}

// ObservationFlags are facts about an Observation.
type ObservationFlags uint32

// The facts detect decides from request and edition.
const (
	ObsNumber   ObservationFlags = 1 << iota // Number is set
	ObsMiss                                  // answered like something that is not there, or an unknown template
	ObsLogin                                 // a login attempt
	ObsFailed                                // a login attempt that failed
	ObsStatic                                // an asset
	ObsPrivate                               // an object that some client is refused
	ObsOdd                                   // encoded or dotted in a way browsers do not
	ObsPage                                  // a page a person reads
	ObsUnknown                               // no template knows the path
	ObsRefused                               // credential refused
	ObsLinked                                // came with a referer: something pointed here
	ObsAuto                                  // what software asks on its own: favicons, robots.txt, well-known
	ObsSlot                                  // the template has an id slot
	ObsBorrowed                              // seen at the address, owned by a credential
	ObsWorked                                // a login attempt that worked, as the configuration tells
	ObsRead                                  // GET or HEAD
)

// Has reports whether all of f are set.
func (o *Observation) Has(f ObservationFlags) bool { return o.Flags&f == f }

// EndpointClass groups endpoints whose clients behave alike; priors are per
// class until an endpoint has enough clients of its own.
type EndpointClass uint8

// The classes.
const (
	ClassOther EndpointClass = iota
	ClassStatic
	ClassPage
	ClassList
	ClassObject
	ClassAPI
	ClassLogin
	EndpointClasses // how many there are
)
