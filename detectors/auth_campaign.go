package detectors

import (
	"encoding/json"
	"reflect"
	"slices"

	"weir/pipeline"
)

// loginJunction sees one login endpoint over all clients: stuffing and spraying
// by so many sources that none of them stands out.
//
// Two ways lead to a campaign. The endpoint's share of failures (failWatch) tells
// how much is malicious, however it is spread. And each value that clients have
// in common (agent, JA4, ASN, network, pairs of them) is a client of its own with
// its own past as the null: where attackers share something that few others have,
// a few dozen attempts are enough. First contacts of an account with what is
// shared count, and only where the account never logged in from there before.
//
// Common cause: where clients that logged in before fail as well, where everybody
// else fails too, or where successes vanish, something broke. That is told as
// health.logins and is no attack.
//
// Misses: an attack below one in a hundred of the logins that shares nothing;
// one that was there before weir was; endpoints whose outcome nothing shows.
// Looks like it: a new version of an app that cannot log in, on new devices
// alone. OWASP API2, ATT&CK T1110.004 and T1110.003.
type loginJunction struct{}

const (
	nameStuffing = "auth.stuffing"
	nameSpraying = "auth.spraying"
	nameLogins   = "health.logins"
)

func (loginJunction) name() string                  { return nameStuffing }
func (loginJunction) wants(m pipeline.Meeting) bool { return m == pipeline.MeetEndpoint }
func (loginJunction) open() table                   { return new(loginTable) }

// The bounds of a virtual shard: real login endpoints are a handful, and one
// takes up to two megabytes once accounts log in there.
const (
	maxLoginEndpoints = 4
	// endpointIdle is after how long without a login an endpoint makes room.
	endpointIdle = 7 * 24 * 3600e6
	// openAfter is how many logins must have worked before anything is said, unless the
	// edition knows the endpoint:
	// where none ever does, failing tells nothing.
	openAfter = 5
)

// loginTable is the login endpoints of one virtual shard.
type loginTable struct {
	Endpoints []*loginEndpoint // by Key
}

// loginEndpoint is one endpoint. Exported fields are its checkpoint.
type loginEndpoint struct {
	Key      uint64
	Endpoint pipeline.Endpoint
	Labels   map[string]string
	Last     pipeline.Time
	Total    int64 // logins whose outcome is known
	Fails    int64
	Worked   int64
	Unknown  int64
	Watch    failWatch `json:"-"`
	// Epoch numbers the rises of the watch: counts since its onset are of one.
	Epoch uint32
	Rest  familiarity
	// Strangers is how first contacts of accounts from a new place fare: what a
	// cohort never seen is compared with.
	Strangers shareOf
	Recent    recentLogins `json:"-"`
	Pace      [2]int64     // logins that worked: in the running hour, an hour as smoothed
	PaceAt    pipeline.Time
	// The time between two logins that worked, smoothed.
	OKGap, OKs int64
	OKLast     pipeline.Time

	Dims     [dimensions]cohortTable `json:"-"`
	Familiar loginFilter             `json:"-"` // accounts with where they logged in from
	Seen     loginFilter             `json:"-"` // accounts with what they tried from, this day

	Sample    [2]loginSample // of failed attempts: this day's and the last one's
	SampleDay int64
	Wins      []attempt // unfamiliar logins that worked, the latest
	Campaigns []campaign
	Notice    noticeState
}

// familiarity is how clients fare that logged in from there before, since the
// onset and usually.
type familiarity struct {
	N, K     int64 // since onset
	Expected int64 // failures expected of them, 1/2^20
	WN, WK   int64 // of the running window
	Usual    int64 // share that fails, 1/2^20
	Taught   int64
}

// shareOf counts yes among all.
type shareOf struct{ K, N int64 }

// noticeState is the common cause that is told at the moment.
type noticeState struct {
	Since, Told pipeline.Time
	ID          string
	Words       string
}

// dimension is something that clients have in common.
type dimension uint8

const (
	dimAgent dimension = iota
	dimJA4
	dimASN
	dimNet // IPv4 /24, IPv6 /48
	dimFamily
	dimCountry
	dimFresh // no login from there ever worked
	dimJA4ASN
	dimAgentASN
	dimensions
)

// tested are the dimensions whose values are clients of their own. Families and
// countries are too wide for that.
func (d dimension) tested() bool {
	return d != dimFamily && d != dimCountry
}

// place reports whether a value of d says where a client is and not what it runs.
func (d dimension) place() bool { return d == dimASN || d == dimNet || d == dimCountry }

// cohort is one value of a dimension, pointer-free.
type cohort struct {
	key     uint64
	senders linear64 // that failed since the evidence began
	top     uint64   // the sender with most of the failures (Boyer & Moore's vote)
	onset   pipeline.Time
	last    uint32
	histK   uint32 // first contacts before the evidence: own past
	histN   uint32
	pendK   uint32 // those since then: they become past when nothing came of them
	pendN   uint32
	curK    uint32 // all logins since the watch's onset, of epoch
	curN    uint32
	epoch   uint32
	evK     uint32 // all logins since the evidence began
	evN     uint32
	evKnown uint32 // failures of accounts that logged in from there before
	topN    uint32
	firsts  uint32 // first contacts since the evidence began
	total   uint32
	tests   trial
	// What the endpoint had seen when the evidence began.
	totalWas, failsWas uint32
	weighN, weighK     uint32 // of evN and evK, those that weigh
	_                  uint32
}

// cohortTable holds the values of one dimension: sets of eight, doubled up to
// maxCohorts, then the least telling of a set makes room.
type cohortTable struct {
	rows []cohort
	used int
}

const (
	cohortWays = 8
	minCohorts = 64
	maxCohorts = 1024
	// cohortHistory caps a cohort's own past (detection.md 4: ESS 200).
	cohortHistory  = 256
	cohortHalfLife = 2 * 24 * 3600
)

// at returns the row of key, making one.
func (t *cohortTable) at(key uint64, now uint32) *cohort {
	if t.rows == nil {
		t.rows = make([]cohort, minCohorts)
	}
	for {
		set := t.set(key)
		free := -1
		for i := range set {
			if set[i].key == key {
				return &set[i]
			}
			if set[i].key == 0 && free < 0 {
				free = i
			}
		}
		if free < 0 && len(t.rows) < maxCohorts {
			t.grow()
			continue
		}
		if free < 0 {
			free = 0
			for i := range set {
				if set[i].less(&set[free], now) {
					free = i
				}
			}
		} else {
			t.used++
		}
		set[free] = cohort{key: key}
		return &set[free]
	}
}

// find returns the row of key, nil if there is none.
func (t *cohortTable) find(key uint64) *cohort {
	if t.rows == nil {
		return nil
	}
	set := t.set(key)
	for i := range set {
		if set[i].key == key {
			return &set[i]
		}
	}
	return nil
}

func (t *cohortTable) set(key uint64) []cohort {
	i := int(pipeline.Mix64(key, 11)>>20) & (len(t.rows)/cohortWays - 1)
	return t.rows[i*cohortWays : (i+1)*cohortWays]
}

func (t *cohortTable) grow() {
	old := t.rows
	t.rows = make([]cohort, 2*len(old))
	for i := range old {
		if old[i].key == 0 {
			continue
		}
		set := t.set(old[i].key)
		for j := range set {
			if set[j].key == 0 {
				set[j] = old[i]
				break
			}
		}
	}
}

// less orders rows by how little is lost with them.
func (c *cohort) less(d *cohort, now uint32) bool {
	a, b := c.worth(now), d.worth(now)
	if a != b {
		return a < b
	}
	if c.last != d.last {
		return c.last < d.last
	}
	return c.key < d.key
}

func (c *cohort) worth(now uint32) int64 {
	w := int64(c.tests.score()/pipeline.Nat)*1000 + int64(c.curK)*10 + int64(c.histN)
	if now-c.last > daySeconds {
		w /= 8
	}
	return w
}

// null is what the cohort's own past and the prior let expect.
func (c *cohort) null(prior Beta) Beta {
	return Beta{prior.A + c.histK*256, prior.B + (c.histN-c.histK)*256}
}

// usual is the share of failures expected of the cohort, 1/2^20: its own past
// behind twenty logins of the endpoint's.
func (c *cohort) usual(endpoint int64) int64 {
	return (endpoint*20 + int64(c.histK)*shareOne) / (20 + int64(c.histN))
}

// loginFilter is a large bloom that grows with its use: two generations, the older of
// which goes when the younger is full or old. It says "seen" too often at worst.
type loginFilter struct {
	gens [2][]uint64
	used uint32
	born uint32
}

const (
	minFilter = 1 << 8  // words of 64
	maxFilter = 1 << 16 // 512 kB
)

func (f *loginFilter) has(h uint64) bool { return inFilter(f.gens[0], h) || inFilter(f.gens[1], h) }

// add remembers h for at least period seconds, unless there is too much to
// remember, and reports whether it is new.
func (f *loginFilter) add(h uint64, now, period uint32) bool {
	full := uint32(len(f.gens[0])) * 64 / 16 // with four probes, one in 300 is wrong at worst
	if f.used >= full || now > f.born && now-f.born > period {
		size := minFilter
		if n := len(f.gens[0]); n > 0 {
			size = n
			if f.used >= full {
				size = min(2*n, maxFilter)
			}
		}
		f.gens[1], f.gens[0] = f.gens[0], make([]uint64, size)
		f.used, f.born = 0, now
	}
	old := inFilter(f.gens[1], h)
	if inFilter(f.gens[0], h) {
		return false
	}
	g, base := f.gens[0], filterBlock(f.gens[0], h)
	for i := range uint64(4) {
		p := h >> (9 * i) & 511
		g[base+int(p>>6)] |= 1 << (p & 63)
	}
	f.used++
	return !old
}

func filterBlock(g []uint64, h uint64) int { return int(h>>40) & (len(g)/8 - 1) * 8 }

func inFilter(g []uint64, h uint64) bool {
	if len(g) == 0 {
		return false
	}
	base := filterBlock(g, h)
	for i := range uint64(4) {
		p := h >> (9 * i) & 511
		if g[base+int(p>>6)]>>(p&63)&1 == 0 {
			return false
		}
	}
	return true
}

// recentLogins is the last logins, whoever made them: what the others did while a
// cohort failed.
type recentLogins struct {
	next  int
	n     int
	fails int
	rows  [128]recentLogin
}

type recentLogin struct {
	keys   [dimensions]uint64
	at     pipeline.Time
	failed bool
}

// span is the time that they took, in microseconds.
func (r *recentLogins) span() int64 {
	newest, oldest := (r.next+len(r.rows)-1)%len(r.rows), 0
	if r.n == len(r.rows) {
		oldest = r.next
	}
	return int64(r.rows[newest].at - r.rows[oldest].at)
}

func (r *recentLogins) add(keys *[dimensions]uint64, failed bool, at pipeline.Time) {
	if r.rows[r.next].failed {
		r.fails--
	}
	if failed {
		r.fails++
	}
	r.rows[r.next] = recentLogin{*keys, at, failed}
	r.next = (r.next + 1) % len(r.rows)
	r.n = min(r.n+1, len(r.rows))
}

// failing reports whether more than share (1/2^20) failed.
func (r *recentLogins) failing(share int64) bool { return int64(r.fails)*shareOne > share*int64(r.n) }

// others counts the logins without the value.
func (r *recentLogins) others(d dimension, key uint64) (n, k int64) {
	for i := range r.rows[:r.n] {
		if r.rows[i].keys[d] == key {
			continue
		}
		n++
		if r.rows[i].failed {
			k++
		}
	}
	return n, k
}

// attempt is what one client did with one account: enough to say who, what and
// whether it worked. Keys are what it has in common with others.
type attempt struct {
	Rank     uint64
	User     uint64
	Keys     [dimensions]uint64
	Who      string // the client
	Address  string
	Account  string
	Session  string
	Agent    string
	JA4      string
	Fails    int64
	Works    int64
	First    pipeline.Time
	Last     pipeline.Time
	Exemplar pipeline.Exemplar
}

// loginSample keeps the attempts of the clients with the lowest ranks: a sample
// by client that does not depend on the order, and whose bar tells how many there
// were (KMV; Bar-Yossef et al. 2002).
type loginSample struct {
	Rows []attempt // by Rank and User
	Bar  uint64    // ranks at or above it are not kept; 0: all are
}

const (
	maxSample    = 512
	maxPerClient = 8
	maxWins      = 512
	maxOpenWins  = 128
	maxCampaigns = 4
)

// take adds a failed attempt.
func (s *loginSample) take(a *attempt, fill func(a *attempt)) {
	if s.Bar != 0 && a.Rank >= s.Bar {
		return
	}
	i, ok := slices.BinarySearchFunc(s.Rows, a, compareAttempts)
	if ok {
		s.Rows[i].Fails += a.Fails
		s.Rows[i].Works += a.Works
		s.Rows[i].Last = a.Last
		return
	}
	same := 0
	for j := i - 1; j >= 0 && s.Rows[j].Rank == a.Rank; j-- {
		same++
	}
	for j := i; j < len(s.Rows) && s.Rows[j].Rank == a.Rank; j++ {
		same++
	}
	if same >= maxPerClient {
		if i > 0 && s.Rows[i-1].Rank == a.Rank {
			i--
		}
		s.Rows[i].Fails += a.Fails
		s.Rows[i].Last = a.Last
		return
	}
	fill(a)
	s.Rows = slices.Insert(s.Rows, i, *a)
	for len(s.Rows) > maxSample {
		s.Bar = s.Rows[len(s.Rows)-1].Rank
		j := len(s.Rows)
		for j > 0 && s.Rows[j-1].Rank == s.Bar {
			j--
		}
		clear(s.Rows[j:])
		s.Rows = s.Rows[:j]
	}
}

func compareAttempts(a attempt, b *attempt) int {
	if a.Rank != b.Rank {
		return compare(a.Rank, b.Rank)
	}
	return compare(a.User, b.User)
}

// campaign is one attack that is told.
type campaign struct {
	ID       string
	Detector string
	Who      pipeline.Principal
	Trait    trait
	Top      []trait // of a diffuse one, what explains most
	ByWatch  bool    // opened by the endpoint's share of failures
	Pure     bool    // most of what the trait holds is malicious
	New      bool    // hardly a login with it ever worked before: what works is theirs
	Onset    pipeline.Time
	Last     pipeline.Time
	Told     pipeline.Time
	Score    pipeline.Nats
	Wins     []attempt
	WinCount int64
	Acts     []string // what the accounts did next, in words
	Said     int64    // wins when it was last told
	N, K     int64
	Expected int64 // failures expected, 1/2^20
	Estimate pipeline.Estimate
	Changed  bool
	Live     bool // some of it was not history
}

// trait is what a campaign's attempts have in common; a diffuse one has nothing.
type trait struct {
	Diffuse bool
	Dim     dimension
	Key     uint64
	Text    string
	Share   int64 // of the excess that it explains, percent
}

func (p *trait) holds(keys *[dimensions]uint64) bool { return !p.Diffuse && keys[p.Dim] == p.Key }

func (t *loginTable) tick(k *knot, at pipeline.Time) {
	awake := false
	for _, e := range t.Endpoints {
		awake = e.tick(k, at) || awake
	}
	if awake {
		k.wake()
	}
}

func (t *loginTable) meet(k *knot, s *pipeline.Signal) {
	e := t.endpoint(k, s)
	if e == nil {
		return
	}
	if s.Kind == kindAftermath {
		e.aftermath(s)
	} else {
		e.meet(k, s)
	}
	if len(e.Campaigns) > 0 || e.Notice.Since != 0 {
		k.wake()
	}
}

// endpoint returns the state of s's endpoint; one that is idle makes room.
func (t *loginTable) endpoint(k *knot, s *pipeline.Signal) *loginEndpoint {
	i, ok := slices.BinarySearchFunc(t.Endpoints, s.Key, func(e *loginEndpoint, key uint64) int { return compare(e.Key, key) })
	if ok {
		return t.Endpoints[i]
	}
	if s.Kind == kindAftermath {
		return nil
	}
	if len(t.Endpoints) >= maxLoginEndpoints {
		least := -1
		for j, e := range t.Endpoints {
			if (s.Facts.Time-e.Last > endpointIdle || e.Worked < openAfter) && (least < 0 || e.Last < t.Endpoints[least].Last) {
				least = j
			}
		}
		if least < 0 {
			return nil
		}
		t.Endpoints = slices.Delete(t.Endpoints, least, least+1)
		if least < i {
			i--
		}
	}
	r := &s.Request
	e := &loginEndpoint{Key: s.Key, Endpoint: pipeline.Endpoint{
		Method: clean(r.Method, 16), Host: clean(r.Host, 128), Template: endpointText(k.templates(), r.Request),
	}}
	t.Endpoints = slices.Insert(t.Endpoints, i, e)
	return e
}

// loginChunk is a table in a checkpoint: what holds pointers as JSON, the rest
// as it lies in memory.
type loginChunk struct {
	Layout string
	Rows   []loginChunkRow
}

type loginChunkRow struct {
	Text   json.RawMessage
	Watch  []byte
	Recent []byte
	Dims   [dimensions][]byte
	Used   [dimensions]int
	Gens   [2][2][]byte
	Filled [2][2]uint32
}

// loginLayout names how the parts without pointers lie in memory.
func loginLayout() string {
	return layoutOf(reflect.TypeFor[failWatch](), reflect.TypeFor[cohort](), reflect.TypeFor[recentLogins]())
}

func (t *loginTable) encode(dst []byte) ([]byte, error) {
	c := loginChunk{Layout: loginLayout()}
	for _, e := range t.Endpoints {
		row := loginChunkRow{
			Watch: raw([]failWatch{e.Watch}), Recent: raw([]recentLogins{e.Recent}),
		}
		var err error
		if row.Text, err = json.Marshal(e); err != nil {
			return nil, err
		}
		for d := range e.Dims {
			row.Dims[d], row.Used[d] = raw(e.Dims[d].rows), e.Dims[d].used
		}
		for i, f := range []*loginFilter{&e.Familiar, &e.Seen} {
			row.Gens[i] = [2][]byte{raw(f.gens[0]), raw(f.gens[1])}
			row.Filled[i] = [2]uint32{f.used, f.born}
		}
		c.Rows = append(c.Rows, row)
	}
	data, err := json.Marshal(&c)
	return append(dst, data...), err
}

func (t *loginTable) decode(data []byte) error {
	var c loginChunk
	if err := json.Unmarshal(data, &c); err != nil {
		return err
	}
	if c.Layout != loginLayout() || len(c.Rows) > maxLoginEndpoints {
		return ErrLayout
	}
	for i := range c.Rows {
		row := &c.Rows[i]
		e := new(loginEndpoint)
		if err := json.Unmarshal(row.Text, e); err != nil {
			return err
		}
		var watch []failWatch
		var recent []recentLogins
		if !unraw(row.Watch, &watch, 1) || !unraw(row.Recent, &recent, 1) || len(watch) != 1 || len(recent) != 1 {
			return ErrLayout
		}
		e.Watch, e.Recent = watch[0], recent[0]
		if uint(e.Recent.next) >= uint(len(e.Recent.rows)) || uint(e.Recent.n) > uint(len(e.Recent.rows)) {
			return ErrLayout
		}
		for d := range e.Dims {
			rows := &e.Dims[d].rows
			if !unraw(row.Dims[d], rows, maxCohorts) || len(*rows) > 0 && (len(*rows) < minCohorts || len(*rows)&(len(*rows)-1) != 0) {
				return ErrLayout
			}
			e.Dims[d].used = row.Used[d]
		}
		for i, f := range []*loginFilter{&e.Familiar, &e.Seen} {
			for g := range f.gens {
				words := &f.gens[g]
				if !unraw(row.Gens[i][g], words, maxFilter) || len(*words) > 0 && (len(*words) < minFilter || len(*words)&(len(*words)-1) != 0) {
					return ErrLayout
				}
			}
			f.used, f.born = row.Filled[i][0], row.Filled[i][1]
		}
		t.Endpoints = append(t.Endpoints, e)
	}
	return nil
}
