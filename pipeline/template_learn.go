package pipeline

import (
	"cmp"
	"math/bits"
	"slices"
	"strings"
)

// Bounds of a learner. What is kept is a sample chosen by hashes, so that it is
// a function of the set of requests alone: of each client the templates with
// the smallest hashes, and of the clients those with the most leading zeros.
const (
	maxClientPaths = 512     // per client: one that is answered 200 for everything fills only its own share
	maxLearnPairs  = 1 << 17 // client and path pairs of a learner, about 22 MB
)

// TemplateLearner collects what Build decides from: which clients were answered
// on which paths. It keeps neither order nor time: adding in any order, or to
// several learners that are merged, comes to the same. It is bounded and serves
// one goroutine.
type TemplateLearner struct {
	level   int // clients whose hash has fewer leading zeros are not kept
	limit   int // pairs
	pairs   int
	clients map[uint64]*learnedClient
	paths   map[uint64]*learnedPath
}

// learnedClient is one client's pairs, sorted by path.
type learnedClient struct{ pairs []learnedPair }

type learnedPair struct {
	path  uint64
	hits  uint32 // saturating
	flags learnedFlags
}

type learnedFlags uint8

const (
	learnedGood  learnedFlags = 1 << iota // answered with success
	learnedWeak                           // refused, sent elsewhere, or status unknown: only several clients make it a path
	learnedWrite                          // with a method that changes things
)

// learnedPath is a path after the stateless pass.
type learnedPath struct {
	host, text string
	clients    int // pairs that point here
}

// NewTemplateLearner returns an empty learner.
func NewTemplateLearner() *TemplateLearner {
	return &TemplateLearner{
		limit: maxLearnPairs, clients: make(map[uint64]*learnedClient), paths: make(map[uint64]*learnedPath),
	}
}

// Add counts one answered request. client is the owner's hash. What the server
// did not find, and what is not text, teaches nothing. Strings are not kept.
func (l *TemplateLearner) Add(host, method, path string, status uint16, client uint64) {
	var p LearnedPath
	l.AddPath(&p, host, method, path, status, client)
}

// LearnedPath is what a learner makes of a host and a path; the zero value is
// one that nobody read yet. It keeps no reference to the strings it was read from.
type LearnedPath struct {
	hash       uint64
	host, text string // as learnedPath has them
	state      learnedState
}

type learnedState uint8

const (
	learnedNothing learnedState = iota + 1 // it is no text, or too long
	learnedText
)

// AddPath is Add for a caller that has the same host and path more than once: p
// is theirs, and spares reading them again.
func (l *TemplateLearner) AddPath(p *LearnedPath, host, method, path string, status uint16, client uint64) {
	flags := learnedFlagsOf(method, status)
	client = Mix64(client, textSeed) // sampled by: callers' hashes need not be even
	if flags == 0 || bits.LeadingZeros64(client) < l.level {
		return
	}
	if p.state == 0 {
		p.read(host, path)
	}
	if p.state == learnedText {
		l.add(p, flags, client)
	}
}

func (lp *LearnedPath) read(host, path string) {
	lp.state = learnedNothing
	var p normalPath
	if p.readPlain(path) && !hasUpper(host) {
		lp.set(host, &p)
		return
	}
	lp.readOdd(host, path)
}

// readOdd is apart so that read need not clear the scratch.
func (lp *LearnedPath) readOdd(host, path string) {
	var scratch [pathScratch]byte
	var p normalPath
	p.text = p.read(path, &scratch)
	if p.garbage || p.tail != 0 {
		return
	}
	var low [maxHost]byte
	lp.set(string(lowerHost(low[:0], host)), &p)
}

func (lp *LearnedPath) set(host string, p *normalPath) {
	if !isHost(host) || len(p.text) > 4*maxTemplateText {
		return
	}
	var buf [maxTemplateText + 64]byte
	text := buf[:0]
	if text = p.appendTyped(text); len(text) > maxTemplateText {
		return
	}
	*lp = LearnedPath{hash: Mix64(Hash64(host), Hash64(string(text))), host: strings.Clone(host), text: string(text), state: learnedText}
}

func learnedFlagsOf(method string, status uint16) (f learnedFlags) {
	switch {
	case status >= 200 && status < 300, status == 304, status == 101:
		f = learnedGood
	case status == 0, status >= 300 && status < 400, status == 401, status == 403:
		f = learnedWeak
	default:
		return 0
	}
	switch method {
	case "GET", "HEAD", "OPTIONS", "":
	default:
		f |= learnedWrite
	}
	return f
}

func (l *TemplateLearner) add(p *LearnedPath, flags learnedFlags, client uint64) {
	c := l.clients[client]
	if c == nil {
		c = &learnedClient{}
		l.clients[client] = c
	}
	if !l.count(c, learnedPair{p.hash, 1, flags}) {
		return
	}
	if l.paths[p.hash] == nil {
		l.paths[p.hash] = &learnedPath{host: p.host, text: p.text}
	}
	l.paths[p.hash].clients++
	l.shrink()
}

// count adds a pair to a client. It reports whether the pair is new there; the
// caller then counts it in paths.
func (l *TemplateLearner) count(c *learnedClient, p learnedPair) bool {
	i, found := slices.BinarySearchFunc(c.pairs, p.path, func(a learnedPair, b uint64) int { return cmp.Compare(a.path, b) })
	if found {
		have := &c.pairs[i]
		have.hits = uint32(min(uint64(have.hits)+uint64(p.hits), 1<<32-1))
		have.flags |= p.flags
		return false
	}
	if len(c.pairs) == maxClientPaths {
		if i == maxClientPaths {
			return false
		}
		l.forget(c.pairs[maxClientPaths-1].path)
		c.pairs = c.pairs[:maxClientPaths-1]
	}
	c.pairs = slices.Insert(c.pairs, i, p)
	l.pairs++
	return true
}

// forget takes back one pair.
func (l *TemplateLearner) forget(path uint64) {
	l.pairs--
	if p := l.paths[path]; p != nil {
		if p.clients--; p.clients == 0 {
			delete(l.paths, path)
		}
	}
}

// shrink halves the share of clients until the pairs fit. The pairs that a
// share would hold only grow as requests are added, so the level that is
// reached does not depend on their order.
func (l *TemplateLearner) shrink() {
	for l.pairs > l.limit && l.level < 64 {
		l.raise(l.level + 1)
	}
}

// raise drops the clients below level.
func (l *TemplateLearner) raise(level int) {
	if level <= l.level {
		return
	}
	l.level = level
	for id, c := range l.clients {
		if bits.LeadingZeros64(id) >= level {
			continue
		}
		for _, p := range c.pairs {
			l.forget(p.path)
		}
		delete(l.clients, id)
	}
}

// Merge adds all that o has seen; o is not changed. Any order of merges comes
// to the same.
func (l *TemplateLearner) Merge(o *TemplateLearner) {
	l.raise(o.level)
	for id, from := range o.clients {
		if bits.LeadingZeros64(id) < l.level {
			continue
		}
		c := l.clients[id]
		if c == nil {
			c = &learnedClient{}
			l.clients[id] = c
		}
		for _, p := range from.pairs {
			if !l.count(c, p) {
				continue
			}
			if l.paths[p.path] == nil {
				op := o.paths[p.path]
				l.paths[p.path] = &learnedPath{host: op.host, text: op.text}
			}
			l.paths[p.path].clients++
		}
		l.shrink()
	}
}
