package schemas

import (
	"errors"
	"fmt"
	"strings"
)

// CEF is one event of the Common Event Format.
type CEF struct {
	Header    [7]string // version, vendor, product, device version, signature id, name, severity
	Extension map[string]string
}

// ParseCEF reads one event after ArcSight's Implementing CEF: in the header \ and
// | are escaped by \; in the values of the extension \ and = are, and a line's end
// is written \n or \r. A value reaches up to the next key, which is a word of
// letters and digits between a space and an = that is not escaped.
func ParseCEF(line string) (*CEF, error) {
	rest, ok := strings.CutPrefix(line, "CEF:")
	if !ok {
		return nil, errors.New("read CEF: it does not begin with its name")
	}
	if strings.ContainsAny(line, "\r\n") {
		return nil, errors.New("read CEF: it has several lines")
	}
	c := &CEF{Extension: map[string]string{}}
	for i := range c.Header {
		var field strings.Builder
		for {
			if rest == "" {
				return nil, fmt.Errorf("read CEF: the header ends in field %d", i+1)
			}
			b := rest[0]
			rest = rest[1:]
			if b == '|' {
				break
			}
			if b == '\\' {
				if rest == "" || rest[0] != '\\' && rest[0] != '|' {
					return nil, fmt.Errorf("read CEF: field %d of the header has a \\ that escapes nothing", i+1)
				}
				b, rest = rest[0], rest[1:]
			}
			field.WriteByte(b)
		}
		c.Header[i] = field.String()
	}
	return c, c.extension(rest)
}

func (c *CEF) extension(s string) error {
	// The places of = that are not escaped, and the keys in front of them.
	var keys []string
	var from, to []int // of the values
	for i := 0; i < len(s); i++ {
		switch s[i] {
		case '\\':
			i++
		case '=':
			start := i
			for start > 0 && alphanumeric(s[start-1]) {
				start--
			}
			if start == i || start > 0 && s[start-1] != ' ' {
				return fmt.Errorf("read CEF: an = at %d of the extension has no key", i)
			}
			if len(from) > 0 {
				to = append(to, start-1)
			} else if start != 0 {
				return errors.New("read CEF: the extension does not begin with a key")
			}
			keys = append(keys, s[start:i])
			from = append(from, i+1)
		}
	}
	to = append(to, len(s))
	for i, k := range keys {
		if _, twice := c.Extension[k]; twice {
			return fmt.Errorf("read CEF: %s is there twice", k)
		}
		v, err := unescape(s[from[i]:to[i]])
		if err != nil {
			return fmt.Errorf("read CEF: %s: %w", k, err)
		}
		c.Extension[k] = v
	}
	return nil
}

func alphanumeric(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9'
}

func unescape(s string) (string, error) {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		if s[i] != '\\' {
			b.WriteByte(s[i])
			continue
		}
		i++
		if i == len(s) {
			return "", errors.New("it ends in a \\")
		}
		switch s[i] {
		case '\\', '=':
			b.WriteByte(s[i])
		case 'n':
			b.WriteByte('\n')
		case 'r':
			b.WriteByte('\r')
		default:
			return "", fmt.Errorf("\\%c is no escape", s[i])
		}
	}
	return b.String(), nil
}
