package pipeline

import "strings"

// What a single word says for or against being a value of a slot.

// isTitle reports whether s reads like a title: several words.
func isTitle(s string) bool { return strings.ContainsAny(strings.Trim(s, "-_."), "-_") }

// longToken is a length that a single word hardly has.
const longToken = 16

// looksToken reports whether s could be a random string: letters and digits,
// 8 or more, with a digit among them or upper and lower case alternating.
func looksToken(s string) bool {
	var before uint8
	digits, changes := 0, 0
	for i := 0; i < len(s); i++ {
		group := charCase[charKindOf[s[i]]]
		switch {
		case group == 1:
			digits++
		case group == 0 && s[i] != '-' && s[i] != '_':
			return false
		}
		if group != before && group != 0 && before != 0 {
			changes++
		}
		before = group
	}
	return len(s) >= 8 && changes > 0 && (digits > 0 && !isTitle(s) || 100*changes >= 40*len(s) || len(s) >= longToken && 100*changes >= 28*len(s))
}

func hasCaseOrDigit(s string) bool {
	for i := 1; i < len(s); i++ {
		if group := charCase[charKindOf[s[i]]]; group == 1 || group == 3 {
			return true
		}
	}
	return false
}

// isWord reports whether s is never a value. Locales stand near the root;
// deeper down, two letters are as good a value as any.
func isWord(s string, depth int) bool {
	if e, _ := extensionOf(s); e.name != "" && !isDocument(s) {
		return true // a program or a representation
	}
	if strings.HasPrefix(s, operationMark[1:]) {
		return true // an operation
	}
	return isVersion(s) || depth < 2 && isLocale(s) || isReserved(s)
}

// isDocument reports whether s names a document: not a program, not an API's
// representation, whose names are endpoints.
func isDocument(s string) bool {
	e, _ := extensionOf(s)
	switch e.name {
	case "html", "htm", "xhtml", "pdf", "txt", "md", "zip", "gz", "tgz", "bz2", "xz", "tar", "doc", "docx", "xls", "xlsx", "ppt", "pptx", "csv", "log":
		return true
	}
	return false
}

// isReserved lists the words that stand beside ids in APIs: as a user name or
// a slug they would be a coincidence.
func isReserved(s string) bool {
	switch s {
	case "me", "self", "current", "mine", "search", "all", "new", "create", "add", "edit", "update", "delete", "remove", "list", "login", "logout",
		"signin", "signup", "signout", "register", "export", "import", "count", "stats", "latest", "recent", "popular", "featured", "trending", "feed",
		"rss", "index", "upload", "download", "bulk", "batch", "settings", "profile", "account", "password", "reset", "verify", "validate", "check",
		"status", "health", "metrics", "config", "admin", "api", "graphql", "query", "autocomplete", "suggest", "preview", "archive", "archives",
		"comments", "tags", "categories", "category", "tag", "author", "page", "cart", "checkout", "orders", "users", "static", "assets", "images",
		"about-us", "contact-us", "privacy-policy", "terms-of-service", "terms-and-conditions", "terms-of-use", "cookie-policy", "sign-in", "sign-up",
		"sign-out", "log-in", "log-out", "my-account", "forgot-password", "forget-password", "reset-password", "password-reset", "change-password",
		"wp-admin", "wp-content", "wp-includes", "wp-json", "cgi-bin", "robots.txt", "ads.txt", "humans.txt", "security.txt", "llms.txt":
		return true
	}
	return false
}
