package pipeline

// Clear is what a source knows of who sent a request, as received and in
// clear: it exists between a parser and a Resolver, in one goroutine, and goes
// nowhere else. Strings point into the line.
type Clear struct {
	Remote        string // peer address as logged; may carry a port or brackets
	Forwarded     string // X-Forwarded-For as received, "" none
	ForwardedStd  string // RFC 7239 Forwarded as received
	RealIP        string // the client, when the source says it is resolved already
	User          string
	Subject       string
	APIKey        string
	Session       string
	LoginUser     string // the account that a login request tried
	BodyUser      string // the same, as the request's body has it: none unless the request is a login or asks about an account
	Authorization string
}

// bare reports whether c names nobody but by the address: most lines.
func (c *Clear) bare() bool {
	return len(c.User)|len(c.Subject)|len(c.APIKey)|len(c.Session)|len(c.LoginUser)|len(c.Authorization) == 0
}
