package main

import (
	"fmt"

	"weir/alerts"
	"weir/detectors"
	"weir/pipeline"
)

// reason is why a client did not alert. code is for programs: alerted, suppressed,
// information, shadow, off, excused, proxy, evicted, few, unlearned, below, nothing,
// and pending where the input ends too soon. What it says nothing of is nil.
type reason struct {
	code     string
	detector string
	text     string
	line     string   // of the configuration, which hides it; "" for none
	score    *float64 // nats, the most of the detector
	missing  *float64 // of what a review takes
	more     *int64   // so many more would raise it
	of       string   // of what
	every    *float64 // at its own pace, in seconds
}

// minHidden is from how many logins of unknown outcome on these are the reason: so
// many failures make a suspect.
const minHidden = 3

// why decides what kept the client from an alert: what hid a case that was there,
// then what kept one from being made, then what was missing.
func (c *clientCase) why() reason {
	if len(c.alerts) > 0 {
		return c.whyTold()
	}
	for _, h := range c.hidden {
		line := "detect." + h.detector + ".mode: shadow"
		if h.fate == fateShadow {
			return hid("shadow", h.detector, h.score, line, "%s. It has a case of %.2f nats, which is kept and never told", line, h.score.Float())
		}
	}
	for _, h := range c.hidden {
		if h.fate == fateExcused {
			return hid("excused", h.detector, h.score, "", "an endpoint notice: %s reached %.2f nats, most of it where everybody was refused at that time", h.detector, h.score.Float())
		}
	}
	near := c.sorted()
	for i := range near {
		if near[i].best >= pipeline.ReviewAt {
			return c.whyEnough(&near[i])
		}
	}
	switch {
	case c.seen > 0 && (!c.known || c.client.Requests+1 < c.seen):
		return reason{code: "evicted", detector: near[0].detector, text: fmt.Sprintf("it was dropped from memory to bound it and began anew: %d requests were looked at, %d are remembered", c.seen, c.client.Requests)}
	case !c.client.Full:
		return reason{code: "few", text: "it showed too little to be looked at closely: a handful of requests that worked and no login"}
	case c.client.Hidden >= minHidden && (near[0].best <= 0 || akin(near[0].detector, "auth")):
		return reason{code: "unlearned", detector: "auth.bruteforce", text: fmt.Sprintf("it tried %d logins, and of none it is known whether it failed: the endpoint answers both alike as far as weir has learned; tell it with failure: in endpoints", c.client.Hidden)}
	case near[0].counted == 0:
		return reason{code: "nothing", text: "no detector counted anything against it"}
	}
	n := near[0]
	return hid("below", n.detector, n.best, "", "too little: %s came nearest", n.detector)
}

// whyTold is the reason of a client with alerts: nobody may have been told of them.
func (c *clientCase) whyTold() reason {
	first := &c.alerts[0]
	suppressed, information := true, true
	for i := range c.alerts {
		id, silent := c.alerts[i].Silent()
		suppressed = suppressed && silent && id != ""
		information = information && c.alerts[i].Severity == "info"
	}
	switch {
	case suppressed:
		return reason{code: "suppressed", detector: first.Detector, text: "it did alert, and nobody is told: " + alerts.Hidden(first)}
	case information && len(c.client.Hides) > 0:
		return reason{code: "information", detector: first.Detector, text: "it did alert, as information only: " + c.client.Hides[0]}
	}
	return reason{code: "alerted", detector: first.Detector, text: "it did alert"}
}

// whyEnough is the reason of a client with enough for a case that was not told.
func (c *clientCase) whyEnough(n *nearest) reason {
	line := fmt.Sprintf("detect.%s.mode: %s", n.detector, n.mode)
	score := n.best.Float()
	switch {
	case n.mode == detectors.ModeOff, n.mode == detectors.ModeShadow:
		return hid(string(n.mode), n.detector, n.best, line, "%s. It reached %.2f nats, enough for an alert", line, score)
	case c.client.Withheld != "":
		return hid("proxy", n.detector, n.best, "", "%s (%s reached %.2f nats)", c.client.Withheld, n.detector, score)
	case c.sizes.EvictedCases > 0:
		return hid("evicted", n.detector, n.best, "", "%s reached %.2f nats, and its case made room for stronger ones: %d were dropped", n.detector, score, c.sizes.EvictedCases)
	}
	return hid("pending", n.detector, n.best, "", "%s reached %.2f nats, enough, and the input ends before the minute does in which it is told", n.detector, score)
}

// hid is a reason with how far the detector came.
func hid(code, detector string, score pipeline.Nats, line, format string, a ...any) reason {
	at, missing := score.Float(), max(0, (pipeline.ReviewAt-score).Float())
	return reason{code: code, detector: detector, text: fmt.Sprintf(format, a...), score: &at, missing: &missing, line: line}
}
