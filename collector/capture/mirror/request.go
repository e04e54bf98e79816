package mirror

import (
	"strings"

	"weir/collector"
	"weir/collector/capture"
	"weir/pipeline"
)

// want keeps the beginning of bodies that can name an operation or an account, and
// of the answers to these where they tell of a failure.
func want(t *capture.Transaction, response bool) int {
	kind := t.Request.Get(capture.TextContentType)
	if response {
		if len(t.Request.Prefix) == 0 || !isAPI(t.Request.Get(capture.TextTarget)) || !strings.Contains(t.Response.Get(capture.TextContentType), "json") {
			return 0
		}
		return bodyKept
	}
	if kind == "" || !strings.Contains(kind, "json") && !strings.Contains(kind, "form-urlencoded") && !strings.Contains(kind, "graphql") {
		return 0
	}
	return bodyKept
}

// isAPI reports whether a target answers many operations.
func isAPI(target string) bool {
	path, _, _ := strings.Cut(target, "?")
	return strings.Contains(path, "graphql") || strings.Contains(path, "gql") || strings.Contains(path, "rpc")
}

// converter makes requests of exchanges. One goroutine uses it.
type converter struct {
	batch   *collector.Batch
	inflate capture.Inflater
	x       collector.Exchange
	client  pipeline.Address // the last one, with its text
	text    string
}

// Rejects of exchanges.
const (
	rejectNoRequest collector.Reject = "no_request" // only the response was seen
	rejectUnheard   collector.Reject = "unheard"    // the server had closed already
	rejectUnnamed   collector.Reject = "unnamed"    // HTTP/2: the path was named before the capture began, or in a gap
)

// add puts t into the batch.
func (c *converter) add(t *capture.Transaction, number int64) {
	switch {
	case t.Flags&capture.NoRequest != 0:
		c.batch.Reject(rejectNoRequest, number, "response without a request")
		return
	case t.Flags&capture.AfterClose != 0 && t.Flags&capture.NoResponse != 0:
		c.batch.Reject(rejectUnheard, number, t.Request.Get(capture.TextMethod))
		return
	}
	q, r := &t.Request, &t.Response
	if method := q.Get(capture.TextMethod); t.Version == capture.HTTP2 && (method == "" || method != "CONNECT" && !q.Has(capture.TextTarget)) {
		c.batch.Reject(rejectUnnamed, number, method+" of "+q.Get(capture.TextHost))
		return
	}
	x := &c.x
	*x = collector.Exchange{
		Client: c.address(t.Client),
		Method: q.Get(capture.TextMethod), Target: q.Get(capture.TextTarget), Host: q.Get(capture.TextHost),
		Protocol: t.Version.String(), Agent: q.Get(capture.TextAgent), Referer: q.Get(capture.TextReferer),
		Forwarded: q.Get(capture.TextForwarded), ForwardedStd: q.Get(capture.TextForwardedStd),
		Authorization: q.Get(capture.TextAuthorization), APIKey: q.Get(capture.TextAPIKey), Cookie: q.Get(capture.TextCookie),
		RequestID: q.Get(capture.TextRequestID), Location: r.Get(capture.TextLocation),
		Status: t.Status, Bytes: -1, Duration: -1, Number: number,
		RequestType: q.Get(capture.TextContentType),
	}
	// The time of an exchange is that of its end, as servers log it: so they come
	// in order.
	x.Time = max(q.Start, q.End, r.End)
	if r.Start != pipeline.NoTime {
		x.Bytes = r.BodyWire
		x.Duration = int64(max(0, r.End-q.Start))
	}
	if t.Flags&capture.GRPC != 0 {
		x.GRPCStatus = r.Get(capture.TextGRPCStatus)
	}
	if t.Hello != nil {
		x.JA3, x.JA4 = t.Hello.JA3, t.Hello.JA4
	}
	if len(q.Prefix) > 0 {
		if b, err := c.inflate.Decode(q, bodyRead); err == nil {
			x.RequestBody = b
			if len(r.Prefix) > 0 { // the decoder's memory is needed again
				x.RequestBody = append([]byte(nil), b...)
			}
		}
	}
	if len(r.Prefix) > 0 {
		if b, err := c.inflate.Decode(r, bodyRead); err == nil {
			x.ResponseBody = b
		}
	}
	c.batch.Add(x)
}

// address writes a as text; the same client mostly comes again.
func (c *converter) address(a pipeline.Address) string {
	if a != c.client || c.text == "" {
		c.client, c.text = a, a.Addr().String()
	}
	return c.text
}
