package pipeline

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"net/netip"
	"os"
	"path"
	"strings"

	"github.com/oschwald/maxminddb-golang/v2"
)

// ContextConfig is the section context of the configuration: what is known of an
// address from elsewhere. Collect decides it per request, as facts in the
// Request, so that a replay reads what was known then.
type ContextConfig struct {
	Crawlers CrawlersConfig `yaml:"crawlers" json:"crawlers"`
	Lists    []ListConfig   `yaml:"lists" json:"lists"`
	GeoIP    GeoIPConfig    `yaml:"geoip,omitempty" json:"geoip"`
}

// CrawlersConfig says whether crawlers' addresses are checked.
type CrawlersConfig struct {
	Mode string `yaml:"mode" json:"mode"`           // shipped (the default), off
	File string `yaml:"file,omitempty" json:"file"` // more crawlers, or newer ranges of the shipped ones
}

// ListConfig is one list of addresses that somebody saw attack.
type ListConfig struct {
	Name   string `yaml:"name" json:"name"`
	File   string `yaml:"file" json:"file"`
	Format string `yaml:"format" json:"format"` // plain (the default), csv, stix
	Column string `yaml:"column" json:"column"` // of a CSV: its name or its number from 1
}

// GeoIPConfig names databases in MaxMind's format; none is shipped.
type GeoIPConfig struct {
	ASN     string `yaml:"asn,omitempty" json:"asn"`
	Country string `yaml:"country,omitempty" json:"country"`
}

const (
	maxContextLists   = 64
	maxContextFile    = 64 << 20
	maxContextEntries = 1 << 20 // of all lists together
	maxGeoIPFile      = 512 << 20
)

// DefaultContextConfig checks the shipped crawlers and knows nothing else.
func DefaultContextConfig() ContextConfig {
	return ContextConfig{Crawlers: CrawlersConfig{Mode: "shipped"}}
}

// Validate returns every problem of what is written, each with its YAML path,
// joined; nil if none. It opens no file.
func (c ContextConfig) Validate() error {
	var errs []error
	bad := func(path, format string, args ...any) {
		errs = append(errs, fmt.Errorf("context."+path+": "+format, args...))
	}
	switch c.Crawlers.Mode {
	case "", "shipped":
	case "off":
		if c.Crawlers.File != "" {
			bad("crawlers.file", "crawlers are off; leave one of the two out")
		}
	default:
		bad("crawlers.mode", "%q is neither shipped nor off", clip(c.Crawlers.Mode))
	}
	if len(c.Lists) > maxContextLists {
		bad("lists", "%d entries; at most %d", len(c.Lists), maxContextLists)
		return errors.Join(errs...)
	}
	names := map[string]bool{}
	for i, l := range c.Lists {
		at := fmt.Sprintf("lists[%d]", i)
		switch {
		case strings.TrimSpace(l.Name) == "":
			bad(at+".name", "missing")
		case names[l.Name]:
			bad(at+".name", "%q is there twice", clip(l.Name))
		}
		names[l.Name] = true
		if l.File == "" {
			bad(at+".file", "missing")
		}
		switch l.Format {
		case "", "plain", "csv", "stix":
		default:
			bad(at+".format", "%q is none of plain, csv, stix", clip(l.Format))
		}
		if l.Column != "" && l.Format != "csv" {
			bad(at+".column", "only a csv has columns")
		}
	}
	return errors.Join(errs...)
}

// Context is what is known of addresses from elsewhere. It is immutable and safe
// to share; each worker has an Annotator of its own.
type Context struct {
	crawlers []crawler
	lists    []contextList
	listed   networks
	asn      *maxminddb.Reader
	country  *maxminddb.Reader
	hash     string
	notes    []string
}

type contextList struct {
	name string
	nets networks
}

// LoadContext reads what c names. The error holds every problem that was found,
// each with its YAML path.
func LoadContext(c ContextConfig) (*Context, error) {
	if err := c.Validate(); err != nil {
		return nil, err
	}
	x := &Context{}
	sum := sha256.New()
	var errs []error
	bad := func(path string, err error) { errs = append(errs, fmt.Errorf("context.%s: %w", path, err)) }
	if c.Crawlers.Mode != "off" {
		x.crawlers = shippedCrawlers()
		if c.Crawlers.File != "" {
			data, err := readBounded(c.Crawlers.File, maxContextFile)
			if err == nil {
				x.crawlers, err = parseCrawlerFile(x.crawlers, data)
			}
			if err != nil {
				bad("crawlers.file", err)
			}
			digest(sum, "crawlers", data)
		}
	} else {
		digest(sum, "crawlers off", nil)
	}
	var all []netip.Prefix
	for i, l := range c.Lists {
		at := fmt.Sprintf("lists[%d].file", i)
		data, err := readBounded(l.File, maxContextFile)
		if err != nil {
			bad(at, err)
			continue
		}
		digest(sum, "list "+l.Format+" "+l.Column, data)
		got, err := parseList(data, l, maxContextEntries-len(all))
		if err != nil {
			bad(at, fmt.Errorf("%s: %w", l.File, err))
			continue
		}
		if note := got.note(); note != "" {
			x.notes = append(x.notes, fmt.Sprintf("context.%s: %s: %s", at, l.File, note))
		}
		x.lists = append(x.lists, contextList{l.Name, newNetworks(got.prefixes)})
		all = append(all, got.prefixes...)
	}
	x.listed = newNetworks(all)
	open := func(key, file string) *maxminddb.Reader {
		if file == "" {
			return nil
		}
		data, err := readBounded(file, maxGeoIPFile)
		if err != nil {
			bad("geoip."+key, err)
			return nil
		}
		digest(sum, key, data)
		db, err := maxminddb.OpenBytes(data)
		if err != nil {
			bad("geoip."+key, fmt.Errorf("read %s: %w; want a database in MaxMind's format (.mmdb)", file, err))
			return nil
		}
		return db
	}
	x.asn, x.country = open("asn", c.GeoIP.ASN), open("country", c.GeoIP.Country)
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	if c.Crawlers.Mode == "off" || c.Crawlers.File != "" || len(c.Lists) > 0 || x.asn != nil || x.country != nil {
		x.hash = hex.EncodeToString(sum.Sum(nil)[:16])
	}
	return x, nil
}

// digest adds a part to a hash so that no two sequences of parts give the same.
func digest(h hash.Hash, what string, data []byte) {
	part := sha256.Sum256(data)
	fmt.Fprintf(h, "%d %s %x\n", len(what), what, part)
}

func readBounded(name string, limit int64) ([]byte, error) {
	f, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	data, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path.Base(name), err)
	}
	if int64(len(data)) > limit {
		return nil, fmt.Errorf("read %s: it is larger than %d MiB", path.Base(name), limit>>20)
	}
	return data, nil
}

// Hash names the contents of everything that was loaded; "" for the defaults,
// which the version of weir names.
func (x *Context) Hash() string {
	if x == nil {
		return ""
	}
	return x.hash
}

// Notes are sentences about what was skipped while loading.
func (x *Context) Notes() []string { return x.notes }

// ListsOf names the lists that hold a.
func (x *Context) ListsOf(a Address) (names []string) {
	for _, l := range x.lists {
		if l.nets.contains(a) {
			names = append(names, l.name)
		}
	}
	return names
}

// Annotator writes what a Context knows into requests. One goroutine uses an
// Annotator; what is in its caches costs no allocation.
type Annotator struct {
	x         *Context
	addresses []addressFacts // direct mapped; nil where nothing is looked up
	agents    []namedCrawler
}

type addressFacts struct {
	address Address
	asn     uint32
	country Country
	listed  bool
	known   bool
}

type namedCrawler struct {
	key   uint64
	index int16 // of the crawler plus one; 0 none
}

const (
	contextAddresses = 1 << 12
	contextAgents    = 1 << 10
)

// NewAnnotator returns an annotator; of a nil Context one that knows nothing.
func (x *Context) NewAnnotator() *Annotator {
	n := &Annotator{x: x}
	if x == nil {
		return n
	}
	if len(x.listed) > 0 || x.asn != nil || x.country != nil {
		n.addresses = make([]addressFacts, contextAddresses)
	}
	if len(x.crawlers) > 0 {
		n.agents = make([]namedCrawler, contextAgents)
	}
	return n
}

// Annotate sets ASN, Country, FlagListed, FlagCrawler and FlagPretends of a
// request whose Address is decided.
func (n *Annotator) Annotate(r *Request) {
	if r.Address.IsZero() {
		return
	}
	if n.agents != nil && r.Agent != "" {
		if c := n.named(r); c != nil {
			switch c.judge(r.Address) {
			case crawlerVerified:
				r.Flags |= FlagCrawler
			case crawlerFalse:
				r.Flags |= FlagPretends
			}
		}
	}
	if n.addresses == nil {
		return
	}
	f := &n.addresses[Mix64(r.Address.Owner(), uint64(r.Address[15]))&(contextAddresses-1)]
	if !f.known || f.address != r.Address {
		*f = n.x.look(r.Address)
	}
	r.ASN, r.Country = f.asn, f.country
	if f.listed {
		r.Flags |= FlagListed
	}
}

// named returns the crawler that r's agent names, nil if none.
func (n *Annotator) named(r *Request) *crawler {
	key := r.AgentKey
	if key == 0 {
		key = Hash64(r.Agent)
	}
	e := &n.agents[key&(contextAgents-1)]
	if e.key != key || key == 0 {
		*e = namedCrawler{key: key, index: int16(nameOf(n.x.crawlers, r.Agent) + 1)}
	}
	if e.index == 0 {
		return nil
	}
	return &n.x.crawlers[e.index-1]
}

func (x *Context) look(a Address) addressFacts {
	f := addressFacts{address: a, known: true, listed: x.listed.contains(a)}
	ip := a.Addr()
	if x.asn != nil {
		// A record that cannot be read is one that is not there.
		var n uint32
		if x.asn.Lookup(ip).DecodePath(&n, "autonomous_system_number") == nil {
			f.asn = n
		}
	}
	if x.country != nil {
		var code string
		r := x.country.Lookup(ip)
		if r.DecodePath(&code, "country", "iso_code") != nil || code == "" {
			_ = r.DecodePath(&code, "registered_country", "iso_code")
		}
		if len(code) == 2 && code[0]-'A' < 26 && code[1]-'A' < 26 {
			f.country = Country{code[0], code[1]}
		}
	}
	return f
}
