package pipeline

import (
	"bytes"
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"strconv"
	"strings"
)

// listing is what a list of addresses came to.
type listing struct {
	prefixes []netip.Prefix
	skipped  int    // entries that are no address, or say more than one can
	wide     int    // private, reserved, or so wide that they say nothing
	first    string // the first that was skipped, and where
}

func (l *listing) note() string {
	var parts []string
	if l.skipped > 0 {
		parts = append(parts, fmt.Sprintf("%d entries skipped, the first: %s", l.skipped, l.first))
	}
	if l.wide > 0 {
		parts = append(parts, fmt.Sprintf("%d entries are private, reserved or too wide and do not count", l.wide))
	}
	return strings.Join(parts, "; ")
}

func (l *listing) skip(at, text string) {
	if l.skipped++; l.skipped == 1 {
		l.first = at + ": " + strconv.Quote(clip(text))
	}
}

// tooWide reports a network that lists everybody: wider than a /8, or a /19 of
// IPv6.
func tooWide(p netip.Prefix) bool {
	return p.Bits() < 8 || p.Addr().Is6() && p.Bits() < 19
}

func (l *listing) add(at, text string) {
	p, err := parseNetwork(text)
	if err != nil {
		// Lists of others write host bits; they mean the network.
		if q, qerr := netip.ParsePrefix(strings.TrimSpace(text)); qerr == nil && !q.Addr().Is4In6() {
			p, err = q.Masked(), nil
		}
	}
	switch {
	case err != nil:
		l.skip(at, text)
	case tooWide(p) || reserved(Address(p.Addr().As16())):
		l.wide++
	default:
		l.prefixes = append(l.prefixes, p)
	}
}

// parseList reads a list of addresses with at most limit entries. What is no
// address is skipped and counted; a list of which most is skipped is an error.
func parseList(data []byte, how ListConfig, limit int) (l listing, err error) {
	data = bytes.TrimPrefix(data, []byte("\xef\xbb\xbf"))
	switch how.Format {
	case "csv":
		err = l.csv(data, how.Column, limit)
	case "stix":
		err = l.stix(data, limit)
	default:
		err = l.plain(data, limit)
	}
	switch {
	case err != nil:
		return l, err
	case len(l.prefixes) > limit:
		return l, fmt.Errorf("more than %d entries in all lists", maxContextEntries)
	case len(l.prefixes)+l.wide == 0 && l.skipped > 0:
		return l, fmt.Errorf("no address in it; the first entry is %s", l.first)
	case l.skipped > len(l.prefixes)+l.wide:
		return l, fmt.Errorf("most of it is no address: %s", l.note())
	case len(l.prefixes) == 0 && l.wide > 0:
		return l, errors.New("no entry counts: all are private, reserved or too wide")
	}
	return l, nil
}

// plain reads an address or network a line; '#', ';' and what follows an address
// are comments.
func (l *listing) plain(data []byte, limit int) error {
	n := 0
	for line := range bytes.Lines(data) {
		n++
		if i := bytes.IndexAny(line, "#;"); i >= 0 {
			line = line[:i]
		}
		f := bytes.Fields(line)
		if len(f) == 0 {
			continue
		}
		if l.add(fmt.Sprintf("line %d", n), string(f[0])); len(l.prefixes) > limit {
			return nil
		}
	}
	return nil
}

func (l *listing) csv(data []byte, column string, limit int) error {
	r := csv.NewReader(bytes.NewReader(data))
	r.FieldsPerRecord, r.ReuseRecord, r.Comment, r.LazyQuotes, r.TrimLeadingSpace = -1, true, '#', true, true
	at, named := 0, false
	if n, err := strconv.Atoi(column); err == nil {
		if n < 1 || n > 1000 {
			return fmt.Errorf("column %d: want 1 to 1000", n)
		}
		at = n - 1
	} else if column != "" {
		named = true
	}
	for first := true; ; first = false {
		row, err := r.Read()
		if errors.Is(err, io.EOF) {
			if first && named {
				return errors.New("it is empty")
			}
			return nil
		}
		line, _ := r.FieldPos(0)
		place := fmt.Sprintf("line %d", line)
		if err != nil {
			l.skip(place, err.Error())
			continue
		}
		if first && named {
			at = -1
			for i, name := range row {
				if strings.EqualFold(strings.TrimSpace(name), column) {
					at = i
				}
			}
			if at < 0 {
				return fmt.Errorf("no column %q; there are %s", clip(column), clip(strings.Join(row, ", ")))
			}
			continue
		}
		if at >= len(row) {
			l.skip(place, strings.Join(row, ","))
			continue
		}
		if _, err := parseNetwork(row[at]); first && err != nil {
			continue // names of the columns
		}
		if l.add(place, row[at]); len(l.prefixes) > limit {
			return nil
		}
	}
}

// stix reads a STIX 2.1 bundle: the values of ipv4-addr and ipv6-addr objects,
// and indicators that compare addresses and nothing else. Revoked objects do not
// count. An end of validity is not looked at: a list is as good as its last
// download.
func (l *listing) stix(data []byte, limit int) error {
	var bundle struct {
		Type    string `json:"type"`
		Objects []struct {
			Type        string `json:"type"`
			ID          string `json:"id"`
			Value       string `json:"value"`
			Pattern     string `json:"pattern"`
			PatternType string `json:"pattern_type"`
			Revoked     bool   `json:"revoked"`
		} `json:"objects"`
	}
	if err := json.Unmarshal(data, &bundle); err != nil {
		return fmt.Errorf("read STIX bundle: %w", err)
	}
	if bundle.Type != "bundle" {
		return fmt.Errorf("read STIX bundle: its type is %q", clip(bundle.Type))
	}
	for i, o := range bundle.Objects {
		at := fmt.Sprintf("objects[%d]", i)
		switch {
		case o.Revoked:
		case o.Type == "ipv4-addr" || o.Type == "ipv6-addr":
			l.add(at, o.Value)
		case o.Type == "indicator" && (o.PatternType == "stix" || o.PatternType == ""):
			values, addresses, ok := patternAddresses(o.Pattern)
			if ok {
				for _, v := range values {
					l.add(at, v)
				}
			} else if addresses {
				l.skip(at, o.Pattern)
			}
		}
		if len(l.prefixes) > limit {
			return nil
		}
	}
	return nil
}

// patternAddresses returns the addresses of a pattern that is nothing but
// alternatives of addresses: [ipv4-addr:value = 'A' OR ipv4-addr:value ISSUBSET
// 'N' OR ipv6-addr:value IN ('B', 'C')] OR [...]. addresses says that it speaks
// of addresses at all.
func patternAddresses(pattern string) (values []string, addresses, ok bool) {
	addresses = strings.Contains(pattern, "ipv4-addr:value") || strings.Contains(pattern, "ipv6-addr:value")
	if !addresses || len(pattern) > 1<<16 {
		return nil, addresses, false
	}
	rest := pattern
	take := func(token string) bool {
		rest = strings.TrimLeft(rest, " \t\r\n")
		if len(rest) < len(token) || !strings.EqualFold(rest[:len(token)], token) {
			return false
		}
		rest = rest[len(token):]
		return true
	}
	text := func() bool {
		if !take("'") {
			return false
		}
		i := strings.IndexByte(rest, '\'')
		if i < 0 || strings.IndexByte(rest[:i], '\\') >= 0 {
			return false
		}
		values = append(values, rest[:i])
		rest = rest[i+1:]
		return true
	}
	comparison := func() bool {
		if !take("ipv4-addr:value") && !take("ipv6-addr:value") {
			return false
		}
		switch {
		case take("="), take("ISSUBSET"):
			return text()
		case take("IN"):
			if !take("(") || !text() {
				return false
			}
			for take(",") {
				if !text() {
					return false
				}
			}
			return take(")")
		}
		return false
	}
	for {
		if !take("[") || !comparison() {
			return nil, true, false
		}
		for take("OR") {
			if !comparison() {
				return nil, true, false
			}
		}
		if !take("]") {
			return nil, true, false
		}
		if !take("OR") {
			break
		}
	}
	return values, true, strings.TrimSpace(rest) == ""
}
