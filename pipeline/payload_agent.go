package pipeline

import "strings"

// agentPayloads looks at a user agent: a scanner that names itself, or an
// attack that hopes for a log viewer or a shell behind the server.
func agentPayloads(agent string) (p Payloads) {
	var buf [256]byte
	low := buf[:0]
	for i := range min(len(agent), len(buf)) {
		b := agent[i]
		if b >= 'A' && b <= 'Z' {
			b |= 0x20
		}
		low = append(low, b)
	}
	v := string(low)
	if containsAny(v, scannerAgents) {
		p |= PayloadAgent
	}
	if strings.Contains(v, "() {") || strings.Contains(v, "(){") {
		p |= PayloadCommand
	}
	if strings.Contains(v, "${") {
		p |= templateShapes(v)
	}
	if strings.Contains(v, "<script") || strings.Contains(v, "<?php") {
		p |= PayloadXSS
	}
	if strings.IndexByte(v, '\'') >= 0 || strings.Contains(v, "sleep(") || strings.Contains(v, "union select") {
		p |= sqlShapes(v, classesOf(v)) & (PayloadTautology | PayloadUnion | PayloadSQLCall | PayloadSQL)
	}
	return p
}

// scannerAgents name themselves in their agent unless told otherwise.
var scannerAgents = []string{
	"sqlmap", "nikto", "acunetix", "nessus", "nuclei", "wpscan", "masscan", "dirbuster", "gobuster", "fuzz faster u fool", "wfuzz", "w3af", "netsparker", "openvas", "arachni", "havij", "commix", "joomscan", "whatweb", "jaeles", "feroxbuster", "dirsearch", "nmap scripting", "zmeu", "morfeus", "sqlninja", "absinthe", "jorgee", "l9explore", "zgrab", "xsser",
	"burpcollaborator", "appscan", "webinspect", "qualys", "vega/", "skipfish", "brutus", "hydra", "n-stealth", "paros", "webshag", "grabber", "cgichk", "bsqlbf", "advanced email extractor", "struts-pwn", "wprecon", "tplmap", "fimap", "metis", "pmafind", "springenwerk", "uil2pn", "voideye", "webtrends security", "whcc", "core-project", "datacha0s", "dragostea", "internet ninja", "prog.customcrawler", "mysqloit", "golismero", "cmsmap", "vbscan", "detectify", "inspathx", "whisker", "gootkit", "security scan", "forest lobster", "toata", "s.t.a.l.k.e.r", "wordpress hash grabber", "domino hunter",
}

// agentScans remembers what recent agents were. One goroutine uses it.
type agentScans struct {
	seen [256]struct {
		key uint64
		p   Payloads
	}
}

// of takes an agent and its hash.
func (s *agentScans) of(agent string, key uint64) Payloads {
	if agent == "" {
		return 0
	}
	key |= 1
	e := &s.seen[key>>1&255]
	if e.key != key {
		e.key, e.p = key, agentPayloads(agent)
	}
	return e.p
}

// payloads sets what the text of r shows, before values are reduced. It reports
// whether path and referer are plain: see plainPath and plainReferer.
func (r *Resolver) payloads(req *Request) (plain bool) {
	req.Payloads, req.Slot, plain = scanPayloads(req.Path, req.Query, req.Referer)
	if req.Agent != "" {
		req.AgentKey = Hash64(req.Agent)
	}
	if p := r.agents.of(req.Agent, req.AgentKey); p != 0 {
		if req.Payloads == 0 {
			req.Slot = AgentSlot
		}
		req.Payloads |= p
	}
	return plain
}
