package detectors

import "strings"

// declared reports a user agent that names itself a crawler and gives an
// address to write to, as well-behaved ones do.
func declared(agent string) bool {
	if !strings.Contains(agent, "http") && !strings.Contains(agent, "@") && !strings.Contains(agent, "www.") {
		return false
	}
	for i := 0; i+3 <= len(agent); i++ {
		c := agent[i] | 0x20
		switch {
		case c == 'b' && hasFold(agent[i:], "bot"), c == 'c' && hasFold(agent[i:], "crawl"), c == 's' && (hasFold(agent[i:], "spider") || hasFold(agent[i:], "slurp")):
			return true
		}
	}
	return false
}

func hasFold(s, prefix string) bool {
	return len(s) >= len(prefix) && strings.EqualFold(s[:len(prefix)], prefix)
}
