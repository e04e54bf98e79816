package pipeline

// Signal is what detect tells correlate about one request: enough for a view
// wider than one principal, and sent seldom enough (first contacts, logins) to
// cost little. It travels by its meeting key. Request and what it points to are
// valid during the call that takes the signal.
type Signal struct {
	Meeting Meeting
	Key     uint64  // hash of what is met: an object, an account, an endpoint ...
	Sender  uint64  // owner hash of the principal that sends
	Weight  uint32  // what it counts, in 1/256; 256 for a plain fact
	Kind    uint8   // what it says, by Meeting
	Aside   bool    // of a request that a suppression set aside: it meets its like
	Spare   uint16  // families of detectors that do not see it, in detect's bits
	Value   uint64  // what else it says, by Kind
	Score   Nats    // the sender's highest evidence so far
	Request Ordered // the request behind it
	Facts   Observation
	Place   Place // in the order of all signals
}

// Meeting names the kind of place where signals meet.
type Meeting uint8

// The meeting keys.
const (
	MeetResource  Meeting = iota // an object: its Observation.Object
	MeetAccount                  // an account: its Observation.User, or the hash of the account's token
	MeetPrincipal                // a principal: its owner hash
	MeetCohort                   // clients that have something in common
	MeetEndpoint                 // an endpoint: its Observation.Endpoint
	MeetTemplate                 // a template, whatever the method: its Observation.Template
	MeetLogin                    // a login's template, with what followed an attempt there
	Meetings                     // how many there are
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
	ObsAsks                                  // asks about an account without logging in
	ObsTyping                                // of these: forms ask so while a name is typed
	ObsPretends                              // the agent names a crawler that does not come from there
	ObsQueried                               // Object is named by a parameter of the query
	ObsNear                                  // Number is next to what the principal asked for before
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
