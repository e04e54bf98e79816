package packet

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"

	"golang.org/x/net/bpf"
)

// Filters, in the words of tcpdump that choose traffic for a web server:
//
//	tcp port 80 or 8080
//	(tcp port 80 and not host 10.0.0.7) or udp port 4789
//	src net 192.0.2.0/24 and dst portrange 8000-8099
//
// and, or, not (also && || !), parentheses; tcp udp ip ip6 icmp icmp6 gre; port,
// portrange, host, net, each with src or dst before it; a value alone repeats the words
// before the last one.

// Filter is a compiled filter.
type Filter struct {
	root *node
	text string
}

// node is a part of a filter.
type node struct {
	op          string // and or not, proto port host
	left, right *node
	proto       string // tcp udp ...; "" any
	dir         string // src dst; "" either
	from, to    uint16
	prefix      netip.Prefix
}

// ParseFilter compiles text. The empty filter takes everything.
func ParseFilter(text string) (*Filter, error) {
	p := &filterParser{words: filterWords(text)}
	f := &Filter{text: text}
	if len(p.words) == 0 {
		return f, nil
	}
	var err error
	if f.root, err = p.or(0); err == nil && p.at < len(p.words) {
		err = fmt.Errorf("%q is not understood", p.words[p.at])
	}
	if err != nil {
		return nil, fmt.Errorf("read filter %q: %w; want a form like: tcp port 80 or 8080", clip(text, 80), err)
	}
	return f, nil
}

func clip(s string, n int) string { return s[:min(len(s), n)] }

func (f *Filter) String() string { return f.text }

func filterWords(text string) []string {
	for _, w := range []string{"(", ")", "!", "&&", "||"} {
		text = strings.ReplaceAll(text, w, " "+w+" ")
	}
	return strings.Fields(strings.ToLower(text))
}

// Bounds of a filter.
const (
	maxNesting = 16
	maxProgram = 4096 // instructions, as the kernel has it
)

type filterParser struct {
	words []string
	at    int
	last  node // the words before the last value
	any   bool
}

func (p *filterParser) word() string {
	if p.at < len(p.words) {
		return p.words[p.at]
	}
	return ""
}

func (p *filterParser) is(words ...string) bool {
	for _, w := range words {
		if p.word() == w {
			p.at++
			return true
		}
	}
	return false
}

func (p *filterParser) or(depth int) (*node, error) {
	left, err := p.and(depth)
	for err == nil && p.is("or", "||") {
		var right *node
		if right, err = p.and(depth); err == nil {
			left = &node{op: "or", left: left, right: right}
		}
	}
	return left, err
}

func (p *filterParser) and(depth int) (*node, error) {
	left, err := p.not(depth)
	for err == nil && p.is("and", "&&") {
		var right *node
		if right, err = p.not(depth); err == nil {
			left = &node{op: "and", left: left, right: right}
		}
	}
	return left, err
}

func (p *filterParser) not(depth int) (*node, error) {
	if depth > maxNesting {
		return nil, errors.New("it is nested too deep")
	}
	if p.is("not", "!") {
		n, err := p.not(depth + 1)
		return &node{op: "not", left: n}, err
	}
	if p.is("(") {
		n, err := p.or(depth + 1)
		if err == nil && !p.is(")") {
			err = errors.New("a parenthesis is not closed")
		}
		return n, err
	}
	return p.primitive()
}

// primitive reads what a packet is compared with.
func (p *filterParser) primitive() (*node, error) {
	var n node
	begun := p.at
	switch w := p.word(); w {
	case "tcp", "udp", "ip", "ip6", "icmp", "icmp6", "gre":
		n.proto = w
		p.at++
	}
	switch w := p.word(); w {
	case "src", "dst":
		n.dir = w
		p.at++
	}
	switch w := p.word(); w {
	case "port", "portrange":
		n.op = "port"
		p.at++
	case "host", "net":
		n.op = "host"
		p.at++
	default:
		if n.proto != "" && n.dir == "" {
			n.op = "proto"
			return &n, nil
		}
		if p.at == begun && p.any {
			n = p.last // a value alone
			break
		}
		return nil, fmt.Errorf("%q is not understood", w)
	}
	p.last, p.any = n, true
	value := p.word()
	p.at++
	var err error
	if n.op == "port" {
		err = n.ports(value)
	} else {
		err = n.addresses(value)
	}
	return &n, err
}

func (n *node) ports(value string) error {
	if n.proto != "" && n.proto != "tcp" && n.proto != "udp" {
		return fmt.Errorf("%s has no ports", n.proto)
	}
	from, to, ranged := strings.Cut(value, "-")
	if !ranged {
		to = from
	}
	lo, err1 := strconv.ParseUint(from, 10, 16)
	hi, err2 := strconv.ParseUint(to, 10, 16)
	if err1 != nil || err2 != nil || lo > hi {
		return fmt.Errorf("%q is no port", value)
	}
	n.from, n.to = uint16(lo), uint16(hi)
	return nil
}

func (n *node) addresses(value string) error {
	if p, err := netip.ParsePrefix(value); err == nil {
		n.prefix = p.Masked()
		return nil
	}
	a, err := netip.ParseAddr(value)
	if err != nil || a.Zone() != "" {
		return fmt.Errorf("%q is no address or network", value)
	}
	n.prefix = netip.PrefixFrom(a, a.BitLen())
	return nil
}

// offsets say where a program finds the network layer.
type offsets struct {
	proto bpf.Instruction // loads its type
	net   uint32          // its first byte
}

// Offsets that the kernel knows for any link layer: SKF_NET_OFF.
func kernelOffsets() offsets {
	const skfNetOff = 0xfff00000
	return offsets{bpf.LoadExtension{Num: bpf.ExtProto}, skfNetOff}
}

// program compiles f: packets that match are kept up to snap bytes.
func (f *Filter) program(o offsets, snap uint32) ([]bpf.RawInstruction, error) {
	c := &compiler{o: o}
	yes, no := c.label(), c.label()
	if f.root != nil {
		c.node(f.root, yes, no)
	}
	c.place(yes)
	c.emit(bpf.RetConstant{Val: snap})
	c.place(no)
	c.emit(bpf.RetConstant{})
	return c.assemble()
}

// compiler writes a program whose jumps go to labels further on.
type compiler struct {
	o      offsets
	code   []bpf.Instruction
	jumps  map[int]int // of instructions: the label they go to
	labels []int       // where they are
}

func (c *compiler) label() int {
	c.labels = append(c.labels, -1)
	return len(c.labels) - 1
}

func (c *compiler) place(label int) { c.labels[label] = len(c.code) }

func (c *compiler) emit(i bpf.Instruction) { c.code = append(c.code, i) }

func (c *compiler) jump(label int) {
	if c.jumps == nil {
		c.jumps = map[int]int{}
	}
	c.jumps[len(c.code)] = label
	c.emit(bpf.Jump{})
}

// test goes to yes or no by a comparison of what is loaded.
func (c *compiler) test(cond bpf.JumpTest, v uint32, yes, no int) {
	c.emit(bpf.JumpIf{Cond: cond, Val: v, SkipFalse: 1})
	c.jump(yes)
	c.jump(no)
}

func (c *compiler) assemble() ([]bpf.RawInstruction, error) {
	if len(c.code) > maxProgram {
		return nil, errors.New("the filter is too long for the kernel")
	}
	for at, label := range c.jumps {
		c.code[at] = bpf.Jump{Skip: uint32(c.labels[label] - at - 1)}
	}
	return bpf.Assemble(c.code)
}

func (c *compiler) node(n *node, yes, no int) {
	switch n.op {
	case "and":
		next := c.label()
		c.node(n.left, next, no)
		c.place(next)
		c.node(n.right, yes, no)
	case "or":
		next := c.label()
		c.node(n.left, yes, next)
		c.place(next)
		c.node(n.right, yes, no)
	case "not":
		c.node(n.left, no, yes)
	case "proto":
		c.proto(n.proto, yes, no)
	case "port":
		c.port(n, yes, no)
	case "host":
		c.host(n, yes, no)
	}
}

// version goes to v4, v6 or no.
func (c *compiler) version(v4, v6, no int) {
	c.emit(c.o.proto)
	next := c.label()
	c.test(bpf.JumpEqual, typeIPv4, v4, next)
	c.place(next)
	c.test(bpf.JumpEqual, typeIPv6, v6, no)
}

func (c *compiler) proto(name string, yes, no int) {
	v4, v6 := c.label(), c.label()
	switch name {
	case "ip":
		c.version(yes, no, no)
		v4, v6 = -1, -1
	case "ip6":
		c.version(no, yes, no)
		v4, v6 = -1, -1
	default:
		c.version(v4, v6, no)
	}
	if v4 < 0 {
		return
	}
	number := map[string]uint32{"tcp": protoTCP, "udp": protoUDP, "icmp": 1, "icmp6": 58, "gre": protoGRE}[name]
	c.place(v4)
	c.emit(bpf.LoadAbsolute{Off: c.o.net + 9, Size: 1})
	c.test(bpf.JumpEqual, number, yes, no)
	c.place(v6)
	c.emit(bpf.LoadAbsolute{Off: c.o.net + 6, Size: 1})
	c.test(bpf.JumpEqual, number, yes, no)
}

func (c *compiler) port(n *node, yes, no int) {
	v4, v6 := c.label(), c.label()
	c.version(v4, v6, no)
	transport := func(off uint32, ports int) {
		c.emit(bpf.LoadAbsolute{Off: c.o.net + off, Size: 1})
		if n.proto != "udp" {
			next := c.label()
			if n.proto == "tcp" {
				c.test(bpf.JumpEqual, protoTCP, ports, no)
				return
			}
			c.test(bpf.JumpEqual, protoTCP, ports, next)
			c.place(next)
		}
		c.test(bpf.JumpEqual, protoUDP, ports, no)
	}
	compare := func(load func(off uint32)) {
		if n.dir != "dst" {
			load(0)
			next := no
			if n.dir == "" {
				next = c.label()
			}
			c.within(n.from, n.to, yes, next)
			if n.dir == "" {
				c.place(next)
			}
		}
		if n.dir != "src" {
			load(2)
			c.within(n.from, n.to, yes, no)
		}
	}
	c.place(v4)
	ports4, whole := c.label(), c.label()
	transport(9, ports4)
	c.place(ports4)
	c.emit(bpf.LoadAbsolute{Off: c.o.net + 6, Size: 2})
	c.test(bpf.JumpBitsSet, 0x1fff, no, whole) // a later fragment has no ports
	c.place(whole)
	c.emit(bpf.LoadAbsolute{Off: c.o.net, Size: 1})
	c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: 15})
	c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpShiftLeft, Val: 2})
	c.emit(bpf.TAX{})
	compare(func(off uint32) { c.emit(bpf.LoadIndirect{Off: c.o.net + off, Size: 2}) })
	c.place(v6)
	ports6 := c.label()
	transport(6, ports6)
	c.place(ports6)
	compare(func(off uint32) { c.emit(bpf.LoadAbsolute{Off: c.o.net + 40 + off, Size: 2}) })
}

// within goes to yes when the port that is loaded lies from lo to hi.
func (c *compiler) within(lo, hi uint16, yes, no int) {
	if lo == hi {
		c.test(bpf.JumpEqual, uint32(lo), yes, no)
		return
	}
	next := c.label()
	c.test(bpf.JumpGreaterOrEqual, uint32(lo), next, no)
	c.place(next)
	c.test(bpf.JumpGreaterThan, uint32(hi), no, yes)
}

func (c *compiler) host(n *node, yes, no int) {
	here := c.label()
	is4 := n.prefix.Addr().Is4()
	src, dst, size := uint32(12), uint32(16), 1
	if is4 {
		c.version(here, no, no)
	} else {
		src, dst, size = 8, 24, 4
		c.version(no, here, no)
	}
	c.place(here)
	if n.proto == "tcp" || n.proto == "udp" || n.proto == "icmp" {
		next := c.label()
		c.proto(n.proto, next, no)
		c.place(next)
	}
	if n.dir != "dst" {
		next := no
		if n.dir == "" {
			next = c.label()
		}
		c.address(n.prefix, src, size, yes, next)
		if n.dir == "" {
			c.place(next)
		}
	}
	if n.dir != "src" {
		c.address(n.prefix, dst, size, yes, no)
	}
}

// address compares an address, word by word.
func (c *compiler) address(p netip.Prefix, off uint32, words, yes, no int) {
	raw := p.Addr().AsSlice()
	bits := p.Bits()
	for i := 0; i < words && bits > 0; i++ {
		mask := uint32(0xffffffff)
		if bits < 32 {
			mask <<= 32 - bits
		}
		bits -= 32
		v := uint32(raw[4*i])<<24 | uint32(raw[4*i+1])<<16 | uint32(raw[4*i+2])<<8 | uint32(raw[4*i+3])
		c.emit(bpf.LoadAbsolute{Off: c.o.net + off + uint32(4*i), Size: 4})
		if mask != 0xffffffff {
			c.emit(bpf.ALUOpConstant{Op: bpf.ALUOpAnd, Val: mask})
		}
		next := c.label()
		c.test(bpf.JumpEqual, v&mask, next, no)
		c.place(next)
	}
	c.jump(yes)
}
