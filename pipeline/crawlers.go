package pipeline

import (
	"bytes"
	_ "embed" // crawlers.txt
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

//go:embed crawlers.txt
var crawlersText string

// crawler is one that publishes the addresses it comes from.
type crawler struct {
	name     string
	word     string // what its agent says
	date     string // of the list, or ""
	complete bool   // it comes from nowhere else
	ranges   networks
	home     networks // where the name is neither verified nor doubted
}

type crawlerVerdict uint8

const (
	crawlerUnknown crawlerVerdict = iota
	crawlerVerified
	crawlerFalse
)

func (c *crawler) judge(a Address) crawlerVerdict {
	switch {
	case c.ranges.contains(a):
		return crawlerVerified
	case c.complete && !c.home.contains(a) && !reserved(a):
		return crawlerFalse
	}
	return crawlerUnknown
}

// reserved reports an address that says nothing of who is behind it: private,
// shared, local.
func reserved(a Address) bool {
	ip := a.Addr()
	return ip.IsPrivate() || ip.IsLoopback() || ip.IsLinkLocalUnicast() || ip.IsMulticast() || ip.IsUnspecified() ||
		ip.Is4() && ip.As4()[0] == 100 && ip.As4()[1]&0xc0 == 64
}

// agentStart is how much of an agent is looked at for a name.
const agentStart = 1024

// nameOf returns the place of the crawler that agent names, or -1.
func nameOf(list []crawler, agent string) int {
	agent = agent[:min(len(agent), agentStart)]
	for i := range list {
		if containsWord(agent, list[i].word) {
			return i
		}
	}
	return -1
}

// containsWord finds word in any case, where no letter or digit stands beside it.
func containsWord(s, word string) bool {
	letter := func(c byte) bool { return c|0x20-'a' < 26 || c-'0' < 10 }
	for i := 0; i+len(word) <= len(s); i++ {
		if s[i]|0x20 == word[0]|0x20 && strings.EqualFold(s[i:i+len(word)], word) &&
			(i == 0 || !letter(s[i-1])) && (i+len(word) == len(s) || !letter(s[i+len(word)])) {
			return true
		}
	}
	return false
}

// CrawlerNamed returns the name of the shipped crawler that agent names and the
// date of its list, both "" if none.
func CrawlerNamed(agent string) (name, date string) {
	for line := range strings.Lines(crawlersText) {
		head, ok := strings.CutPrefix(line, "crawler ")
		if f := strings.Split(head, " | "); ok && containsWord(agent, f[1]) {
			if f[2] == "unknown" {
				f[2] = ""
			}
			return f[0], f[2]
		}
	}
	return "", ""
}

// shippedCrawlers reads the list that weir ships. It is weir's own: a mistake in
// it is a bug.
func shippedCrawlers() []crawler {
	list, err := parseCrawlers(crawlersText)
	if err != nil {
		panic("BUG: " + err.Error())
	}
	return list
}

func parseCrawlers(text string) (list []crawler, err error) {
	var ranges, home []netip.Prefix
	flush := func() {
		if len(list) > 0 {
			c := &list[len(list)-1]
			c.ranges, c.home = newNetworks(ranges), newNetworks(home)
		}
		ranges, home = nil, nil
	}
	n := 0
	for line := range strings.Lines(text) {
		n++
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if head, ok := strings.CutPrefix(line, "crawler "); ok {
			flush()
			f := strings.Split(head, " | ")
			if len(f) != 5 || f[3] != "complete" && f[3] != "partial" || f[1] == "" {
				return nil, fmt.Errorf("read crawlers, line %d: want crawler NAME | WORD | DATE | complete or partial | SOURCE", n)
			}
			c := crawler{name: f[0], word: f[1], complete: f[3] == "complete"}
			if f[2] != "unknown" {
				c.date = f[2]
			}
			list = append(list, c)
			continue
		}
		into := &ranges
		if rest, ok := strings.CutPrefix(line, "home "); ok {
			line, into = rest, &home
		}
		for s := range strings.FieldsSeq(line) {
			p, err := parseNetwork(s)
			if err != nil {
				return nil, fmt.Errorf("read crawlers, line %d: %w", n, err)
			}
			*into = append(*into, p)
		}
	}
	flush()
	return list, nil
}

// crawlerEntry is one entry of context.crawlers.file, which is a JSON list. Its
// prefixes are as publishers write theirs, {"ipv4Prefix": "..."}, or plain texts.
type crawlerEntry struct {
	Name         string            `json:"name"`
	Agent        string            `json:"agent"` // the word in the agent; the name if absent
	Source       string            `json:"source"`
	Partial      bool              `json:"partial"` // outside the ranges nothing follows
	CreationTime string            `json:"creationTime"`
	Prefixes     []json.RawMessage `json:"prefixes"`
}

// maxCrawlers bounds what a new agent costs: each name is looked for.
const maxCrawlers = 64

// parseCrawlerFile adds the crawlers of a file; one that is there already is
// replaced.
func parseCrawlerFile(list []crawler, data []byte) ([]crawler, error) {
	var entries []crawlerEntry
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(&entries); err != nil {
		return nil, fmt.Errorf("read crawlers: %w; want a list of {name, agent, source, partial, creationTime, prefixes}", err)
	}
	if len(entries) == 0 || len(entries) > maxCrawlers {
		return nil, fmt.Errorf("read crawlers: %d entries; want 1 to %d", len(entries), maxCrawlers)
	}
	list = slices.Clone(list)
	var errs []error
	for i, e := range entries {
		c := crawler{name: e.Name, word: e.Agent, date: e.CreationTime, complete: !e.Partial}
		if c.word == "" {
			c.word = e.Name
		}
		if len(c.date) > 10 {
			c.date = c.date[:10]
		}
		if len(c.name) < 3 || len(c.name) > 64 || len(c.word) < 3 || len(c.word) > 64 {
			errs = append(errs, fmt.Errorf("read crawlers: [%d]: name and agent need 3 to 64 characters", i))
			continue
		}
		var prefixes []netip.Prefix
		for j, raw := range e.Prefixes {
			p, err := parsePublished(raw)
			if err != nil {
				errs = append(errs, fmt.Errorf("read crawlers: [%d].prefixes[%d]: %w", i, j, err))
				continue
			}
			prefixes = append(prefixes, p)
		}
		if len(e.Prefixes) == 0 {
			errs = append(errs, fmt.Errorf("read crawlers: [%d].prefixes: it is empty", i))
		}
		c.ranges = newNetworks(prefixes)
		if at := slices.IndexFunc(list, func(o crawler) bool { return strings.EqualFold(o.name, c.name) }); at >= 0 {
			c.home = list[at].home
			list[at] = c
		} else {
			list = append(list, c)
		}
	}
	return list, errors.Join(errs...)
}

func parsePublished(raw json.RawMessage) (netip.Prefix, error) {
	var text string
	if json.Unmarshal(raw, &text) != nil {
		var p struct {
			V4 string `json:"ipv4Prefix"`
			V6 string `json:"ipv6Prefix"`
		}
		if err := json.Unmarshal(raw, &p); err != nil {
			return netip.Prefix{}, err
		}
		text = p.V4 + p.V6
	}
	p, err := parseNetwork(text)
	if err == nil && tooWide(p) {
		err = fmt.Errorf("%s is wider than any crawler", p)
	}
	return p, err
}
