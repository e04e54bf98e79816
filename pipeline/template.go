package pipeline

import (
	"cmp"
	"slices"
	"strings"
)

// Bounds of Templates: attackers write the paths they are learned from.
const (
	maxTemplateHosts = 256   // hosts with templates of their own; the rest share a class
	maxHostTemplates = 4096  // templates of one host
	maxTemplateNodes = 65536 // segments of all templates together, so nodes at most
	maxTemplateText  = 512   // bytes of one template
)

// sharedHost names the class of the hosts that have no templates of their own.
const sharedHost = "*"

// unknownText is the template of what fits none.
const unknownText = "{unknown}"

// Templates maps paths to endpoint templates: one trie of words and slots per
// host. It is immutable once built and safe for concurrent use. The zero value
// knows no host: every match is cold.
type Templates struct {
	hosts  []hostTemplates // sorted by name
	byName map[string]*hostTemplates
	texts  map[uint64]string
}

// hostTemplates is one host's trie.
type hostTemplates struct {
	name    string
	hash    uint64
	unknown uint64 // template of what fits none
	root    templateNode
	lines   []templateLine // sorted by text
}

// templateLine is one template and what is known of it.
type templateLine struct {
	text    string
	clients int64 // distinct clients, estimated
	write   bool  // seen with a method that changes things
	fixed   bool  // while building: it stands for one of the edition before
}

type templateNode struct {
	hash  uint64 // of the text down to here; the host is no part of it
	words map[string]*templateNode
	slots []slotEdge
	ends  bool // a template ends here
}

type slotEdge struct {
	slot SlotType
	ext  string
	node *templateNode
}

// Match is what Templates knows of one path. Value points into the path.
type Match struct {
	Template  uint64   // hash of host class and canonical template: the same in every edition
	Parent    uint64   // hash of host and template up to before the last slot; without a slot, of the whole
	Path      uint64   // hash of host and normalised path
	Object    uint64   // hash of host, template before the last slot, and the raw values of all slots; 0 without slot
	Number    int64    // decimal value of the last {int}, or of a {file} whose name is a number
	HasNumber bool     // Number is set
	Value     string   // of the last slot as received; "" without slot
	Slots     int      // how many
	Type      SlotType // of the last one
	Known     bool     // a learned template fits
	Cold      bool     // the host has no templates yet: typing alone was used, and not known is no miss
	Odd       bool     // written as no browser writes it
	Static    bool     // an asset, by extension
}

// ColdTemplates knows no host.
func ColdTemplates() *Templates { return &Templates{} }

// textSeed begins the rolling hash of a template's text.
const textSeed = 0x2f

// slotHashOf is the hash of each slot's text.
var slotHashOf = func() (t [slotTypes]uint64) {
	for i := SlotInt; i < slotTypes; i++ {
		t[i] = Hash64(slotNames[i])
	}
	return t
}()

func slotHash(t SlotType, ext string) uint64 {
	if ext == "" {
		return slotHashOf[t]
	}
	return Mix64(slotHashOf[t], Hash64(ext))
}

// Match fills m for a path as received, with or without query. It allocates
// nothing. host is compared without regard to case.
func (t *Templates) Match(host, path string, m *Match) {
	var p normalPath
	if !p.readPlain(path) || hasUpper(host) {
		t.matchOdd(host, path, m)
		return
	}
	t.match(host, path, &p, m)
}

// matchOdd is apart so that Match need not clear the scratch.
func (t *Templates) matchOdd(host, path string, m *Match) {
	var scratch [pathScratch]byte
	var p normalPath
	if !p.readPlain(path) {
		p.text = p.read(path, &scratch)
	}
	if !hasUpper(host) {
		t.match(host, path, &p, m)
		return
	}
	var low [maxHost]byte
	t.match(string(lowerHost(low[:0], host)), path, &p, m)
}

// maxHost is the longest host name in the DNS.
const maxHost = 253

// lowerHost appends host in lower case, cut to maxHost bytes.
func lowerHost(dst []byte, host string) []byte {
	for i := 0; i < len(host) && i < maxHost; i++ {
		c := host[i]
		if c >= 'A' && c <= 'Z' {
			c |= 0x20
		}
		dst = append(dst, c)
	}
	return dst
}

func hasUpper(s string) bool {
	for i := 0; i < len(s); i++ {
		if c := s[i]; c >= 'A' && c <= 'Z' {
			return true
		}
	}
	return false
}

// isHost reports whether s can be a host name: none is learned under another.
func isHost(s string) bool {
	for i := 0; i < len(s); i++ {
		if s[i] <= ' ' || s[i] >= 0x7f {
			return false
		}
	}
	return len(s) <= maxHost
}

func (t *Templates) match(host, path string, p *normalPath, m *Match) {
	hash := Hash64(host)
	*m = Match{Path: Mix64(hash, Hash64(p.text)) ^ p.tail, Odd: p.odd}
	h := t.byName[host]
	if h == nil {
		h = t.byName[sharedHost]
	}
	if h != nil {
		if m.Known = h.match(path, p, m); m.Known {
			m.Template = Mix64(h.hash, m.Template)
			m.seal(hash)
			return
		}
	}
	// What follows is the same with no templates at all, but for Template.
	m.typed(path, p)
	if m.Cold = h == nil; m.Cold {
		m.Template = Mix64(hash, m.Template)
	} else {
		m.Template = h.unknown
	}
	m.seal(hash)
}

// match walks the trie. Template and Parent lack the host until seal.
func (h *hostTemplates) match(path string, p *normalPath, m *Match) bool {
	node := &h.root
	at := 0
	for i := range p.n {
		word := p.segment(i)
		if next := node.words[word]; next != nil {
			node = next
			continue
		}
		t, ext, asset := p.slot(i)
		next := node.slot(t, ext)
		if next == nil {
			if t, next = node.wider(t, word); next == nil {
				m.reset()
				return false
			}
		}
		m.slot(node.hash, t, word, asset)
		at = i
		node = next
	}
	if !node.ends {
		m.reset()
		return false
	}
	m.finish(path, p, at, node.hash)
	return true
}

// slot finds the child for a typed segment.
func (n *templateNode) slot(t SlotType, ext string) *templateNode {
	if t == SlotNone {
		return nil
	}
	for i := range n.slots {
		if e := &n.slots[i]; e.slot == t && e.ext == ext {
			return e.node
		}
	}
	return nil
}

// wider finds the child that stands for words and for every type that opaque
// strings can look like; assets are never taken for values.
func (n *templateNode) wider(t SlotType, word string) (SlotType, *templateNode) {
	if t == SlotFile || t == SlotLong || len(n.slots) == 0 {
		return t, nil
	}
	if next := n.slot(SlotSlug, ""); next != nil && isTitle(word) {
		return SlotSlug, next
	}
	return SlotStr, n.slot(SlotStr, "")
}

// typed fills m from the stateless pass alone.
func (m *Match) typed(path string, p *normalPath) {
	m.reset()
	text := uint64(textSeed)
	at := 0
	for i := range p.n {
		word := p.segment(i)
		t, ext, asset := p.slot(i)
		if t == SlotNone {
			text = Mix64(text, Hash64(word))
			continue
		}
		m.slot(text, t, word, asset)
		at = i
		text = Mix64(text, slotHash(t, ext))
	}
	m.finish(path, p, at, text)
}

// reset undoes a walk that led nowhere.
func (m *Match) reset() {
	*m = Match{Path: m.Path, Odd: m.Odd}
}

// slot notes a slot; before is the hash of the text before it.
func (m *Match) slot(before uint64, t SlotType, value string, asset bool) {
	m.Parent, m.Type, m.Static = before, t, asset
	m.Slots++
	m.Object = Mix64(m.Object, Hash64(value))
	if t == SlotInt || t == SlotFile {
		if e, dot := extensionOf(value); e.name != "" {
			value = value[:dot]
		}
		if v, ok := slotNumber(value); ok {
			m.Number, m.HasNumber = v, true
		}
	}
}

// finish sets what needs the whole walk.
func (m *Match) finish(path string, p *normalPath, at int, text uint64) {
	m.Template = text
	if m.Slots == 0 {
		m.Parent = text
		return
	}
	m.Value = p.value(path, at)
}

// seal adds the host.
func (m *Match) seal(host uint64) {
	m.Parent = Mix64(host, m.Parent)
	if m.Slots > 0 {
		if m.Object = Mix64(m.Parent, m.Object); m.Object == 0 {
			m.Object = 1
		}
	}
}

// Text returns the template behind Match.Template: "/users/{int}/orders". It
// knows the learned ones and {unknown}, not those of cold hosts.
func (t *Templates) Text(template uint64) (string, bool) {
	s, ok := t.texts[template]
	return s, ok
}

// AppendText appends the template that Match finds for path, cold ones
// included: what an alert shows.
func (t *Templates) AppendText(dst []byte, host, path string) []byte {
	var m Match
	t.Match(host, path, &m)
	if s, ok := t.texts[m.Template]; ok {
		return append(dst, s...)
	}
	var scratch [pathScratch]byte
	var p normalPath
	p.text = p.read(path, &scratch)
	return p.appendTyped(dst)
}

// Hosts is how many hosts have templates, the shared class included.
func (t *Templates) Hosts() int { return len(t.hosts) }

// Len is how many templates are known.
func (t *Templates) Len() int {
	n := 0
	for i := range t.hosts {
		n += len(t.hosts[i].lines)
	}
	return n
}

// newTemplates builds the tries. hosts come with name and lines, in any order;
// what is beyond the bounds is left out, the last in order first.
func newTemplates(hosts []hostTemplates) *Templates {
	slices.SortFunc(hosts, func(a, b hostTemplates) int { return cmp.Compare(a.name, b.name) })
	t := &Templates{hosts: hosts, byName: make(map[string]*hostTemplates, len(hosts)), texts: make(map[uint64]string)}
	nodes := 0
	for i := range hosts {
		h := &hosts[i]
		h.hash = Hash64(h.name)
		h.unknown = Mix64(h.hash, Hash64(unknownText))
		h.root = templateNode{hash: textSeed}
		slices.SortFunc(h.lines, func(a, b templateLine) int { return cmp.Compare(a.text, b.text) })
		kept := h.lines[:0]
		for _, l := range h.lines {
			if nodes += strings.Count(l.text, "/"); nodes > maxTemplateNodes || len(kept) == maxHostTemplates {
				break
			}
			end := h.root.grow(l.text)
			end.ends = true
			t.texts[Mix64(h.hash, end.hash)] = l.text
			kept = append(kept, l)
		}
		h.lines = kept
		t.texts[h.unknown] = unknownText
		t.byName[h.name] = h
	}
	return t
}

// grow adds the nodes of a template's text and returns the last.
func (n *templateNode) grow(text string) *templateNode {
	for word := range strings.SplitSeq(strings.Trim(text, "/"), "/") {
		if word == "" {
			continue
		}
		t, ext := parseSegment(word)
		next := n.words[word]
		if t != SlotNone {
			next = n.slot(t, ext)
		}
		if next == nil {
			if t == SlotNone {
				next = &templateNode{hash: Mix64(n.hash, Hash64(word))}
				if n.words == nil {
					n.words = make(map[string]*templateNode)
				}
				n.words[word] = next
			} else {
				next = &templateNode{hash: Mix64(n.hash, slotHash(t, ext))}
				n.slots = append(n.slots, slotEdge{t, ext, next})
			}
		}
		n = next
	}
	return n
}

// parseSegment reads what appendSegment writes; SlotNone is a word.
func parseSegment(s string) (t SlotType, ext string) {
	if len(s) == 0 || s[0] != '{' {
		return SlotNone, ""
	}
	i := strings.IndexByte(s, '}')
	if i < 0 {
		return SlotNone, ""
	}
	t, ext = slotNamed(s[:i+1]), s[i+1:]
	if ext != "" {
		ext = fileExtensions[ext[1:]].name
	}
	return t, ext
}
