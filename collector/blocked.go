package collector

// blockedNames are the members in which WAFs and gateways say what they did:
// AWS WAF, Cloudflare, Azure, Google Cloud Armor, ModSecurity, ECS. A plain
// status is not enough: applications answer 403 too.
const blockedNames = `waf_action wafaction waf.action securityaction firewallmatchesactions blocked waf_blocked waf.blocked
	is_interrupted transaction.is_interrupted enforcedsecuritypolicy.outcome
	jsonpayload.enforcedsecuritypolicy.outcome properties.action event.action edge_action waf_status`

// statusNoAnswer is nginx's 444: the connection was closed without an answer,
// because the configuration says so.
const statusNoAnswer = 444

// isBlocked tells whether a gateway's word for what it did means that the
// application never saw the request. A challenge may have been passed: it is not
// counted.
func isBlocked(b []byte) bool {
	var buf [16]byte
	if len(b) > len(buf) {
		return false
	}
	switch string(appendLower(buf[:0], b)) {
	case "block", "blocked", "deny", "denied", "drop", "dropped", "reject", "rejected", "ban", "true", "1":
		return true
	}
	return false
}
