package pipeline

import "bytes"

// loginPath appends path to dst as servers read it: percent-encoding undone,
// lower case, parameters behind ';' dropped, "//", "." and ".." resolved, no
// slash at the end. A client can spell a path in many ways; all must meet the
// same rule. The result is never longer than len(path)+1.
func loginPath(dst []byte, path string) []byte {
	start := len(dst) // of the segment in hand, at its '/'
	dst = append(dst, '/')
	params := false
	for i := 0; i <= len(path); i++ {
		c := byte('/')
		if i < len(path) {
			c = path[i]
			if c == '?' || c == '#' {
				c, i = '/', len(path)
			} else if c == '%' && i+2 < len(path) {
				if hi, lo := unhex(path[i+1]), unhex(path[i+2]); hi < 16 && lo < 16 {
					c = hi<<4 | lo
					i += 2
				}
			}
		}
		switch {
		case c == '/':
			dst, start = endSegment(dst, start)
			dst = append(dst, '/')
			params = false
		case params:
		case c == ';':
			params = true
		default:
			if c >= 'A' && c <= 'Z' {
				c |= 0x20
			}
			dst = append(dst, c)
		}
	}
	return dst[:start]
}

// endSegment closes the segment that starts at start with its '/'. It returns
// where the next one starts.
func endSegment(dst []byte, start int) ([]byte, int) {
	switch string(dst[start+1:]) {
	case "", ".":
		return dst[:start], start
	case "..":
		for start > 0 {
			start--
			if dst[start] == '/' {
				break
			}
		}
		return dst[:start], start
	}
	return dst, len(dst)
}

func unhex(c byte) byte {
	switch {
	case c >= '0' && c <= '9':
		return c - '0'
	case c >= 'a' && c <= 'f':
		return c - 'a' + 10
	case c >= 'A' && c <= 'F':
		return c - 'A' + 10
	}
	return 0xff
}

// namedLogin knows logins by the last segments of a clean path.
func namedLogin(clean []byte) (LoginEndpoint, bool) {
	last, rest := cutSegment(clean)
	last = cutExtension(last)
	before, _ := cutSegment(rest)
	e := LoginEndpoint{Role: RoleLogin, Weight: "normal"}
	switch string(last) {
	case "login", "log-in", "log_in", "signin", "sign-in", "sign_in", "logon", "log-on", "log_on",
		"authenticate", "wp-login", "j_security_check", "j_spring_security_check", "login_check", "login-check",
		"dologin", "do_login", "do-login", "userlogin", "user_login", "user-login", "checklogin", "loginuser",
		"user_session", "user_sessions", "login_post", "loginpost", "processlogin":
		return e, true
	case "xmlrpc":
		// WordPress takes passwords here, and much else.
		e.Weight = "low"
		return e, true
	case "index":
		return e, string(before) == "administrator"
	case "auth", "token", "session", "sessions":
		return e, loginContext(before)
	}
	if role := namedAsk(last, before); role != "" {
		return LoginEndpoint{Role: role, Weight: "normal"}, true
	}
	return LoginEndpoint{}, false
}

// namedAsk knows the endpoints that ask about an account without logging in, by
// the last segments of a clean path; "" for others.
func namedAsk(last, before []byte) string {
	switch string(last) {
	case "password-reset", "password_reset", "passwordreset", "reset-password", "reset_password", "resetpassword",
		"forgot-password", "forgot_password", "forgotpassword", "forgotten-password", "lost-password", "lost_password",
		"lostpassword", "password-recovery", "recover-password", "account-recovery":
		return RoleReset
	case "reset", "forgot", "recover", "recovery":
		switch string(before) {
		case "password", "passwords", "account", "accounts":
			return RoleReset
		}
	case "signup", "sign-up", "sign_up", "create-account", "create_account":
		return RoleRegister
	case "register", "registration":
		if loginContext(before) {
			return RoleRegister
		}
	case "check-email", "check_email", "checkemail", "email-exists", "email_exists", "email-available", "check-username",
		"check_username", "checkusername", "username-exists", "username-available", "username_available", "check-user",
		"user-exists", "user_exists", "userexists", "account-exists":
		return RoleLookup
	}
	return ""
}

// loginContext reports whether "auth", "token" or "session" behind this segment
// is about logging in, which it is not in /push/token or /chat/sessions.
func loginContext(before []byte) bool {
	switch string(before) {
	case "", "api", "rest", "user", "users", "account", "accounts", "admin", "oauth", "oauth2", "connect",
		"openid-connect", "auth", "identity", "sso", "public", "web", "app", "mobile", "client", "customer",
		"customers", "member", "members", "login":
		return true
	}
	// v1, v2.0
	if len(before) < 2 || len(before) > 4 || before[0] != 'v' {
		return false
	}
	for _, c := range before[1:] {
		if (c < '0' || c > '9') && c != '.' {
			return false
		}
	}
	return true
}

// cutSegment splits the last segment off a clean path.
func cutSegment(clean []byte) (last, rest []byte) {
	i := bytes.LastIndexByte(clean, '/')
	if i < 0 {
		return clean, nil
	}
	return clean[i+1:], clean[:i]
}

// cutExtension drops the file extension of a script.
func cutExtension(segment []byte) []byte {
	for i := len(segment) - 1; i > 0; i-- {
		if segment[i] != '.' {
			continue
		}
		switch string(segment[i+1:]) {
		case "php", "asp", "aspx", "ashx", "asmx", "do", "action", "json", "jsp", "jsf", "html", "htm", "cgi", "pl":
			return segment[:i]
		}
		break
	}
	return segment
}
