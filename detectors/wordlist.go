package detectors

import (
	"strings"

	"weir/pipeline"
)

// askedBySoftware reports paths that browsers, phones and crawlers ask for on
// their own: their absence says nothing about who asked.
func askedBySoftware(path string) bool {
	if len(path) > 64 {
		return false
	}
	last := path[strings.LastIndexByte(path, '/')+1:]
	switch last {
	case "favicon.ico", "favicon.png", "favicon.svg", "favicon.gif", "robots.txt", "ads.txt", "app-ads.txt", "security.txt", "humans.txt",
		"browserconfig.xml", "manifest.json", "site.webmanifest", "manifest.webmanifest", "crossdomain.xml", "sw.js", "service-worker.js",
		"apple-app-site-association", "assetlinks.json", "opensearch.xml", "sitemap.xml", "sitemap.xml.gz", "sitemap.txt", "sitemap_index.xml":
		return true
	}
	return strings.HasPrefix(last, "apple-touch-icon") || strings.HasPrefix(path, "/.well-known/") && !strings.Contains(path, "..")
}

// How much rarer people ask than scanners do, for kinds of path. People ask
// for /.env about once in a hundred thousand clients, scanners nearly always:
// more than one event may say, so the cap decides.
const (
	rareAlways = symbolCap
	rareOften  = 5 * pipeline.Nat
	rareSome   = 3 * pipeline.Nat
)

// rarity returns what a request for path says by its name alone when it misses.
// The names are those that scanners have asked every public host for years.
func rarity(path string) pipeline.Nats {
	if len(path) > 512 {
		path = path[:512]
	}
	var buf [512]byte
	p := lower(buf[:0], path)
	last := p[strings.LastIndexByte(p, '/')+1:]
	for _, s := range [...]string{
		"/.git/", "/.svn/", "/.hg/", "/.aws/", "/.ssh/", "/.vscode/", "/.idea/", "/etc/passwd", "/etc/shadow", "/win.ini", "phpunit", "eval-stdin",
		"/cgi-bin/", "/hnap1", "/boaform", "/gponform", "/actuator/", "/_ignition/", "/solr/admin", "/jmx-console", "/manager/html", "/web-inf/",
		"..%2f", "%2e%2e", "/../", "..\\", "%00", "/wlwmanifest", "/phpmyadmin", "/pma/", "/adminer", "/ecp/", "/owa/auth", "/autodiscover/", "/telescope/",
		"/server-status", "/server-info", "/.ds_store", "/xmlrpc", "<script", "%3cscript", "/remote/login", "/dana-na/", "/vendor/composer", "/console/login",
		"/fckeditor/", "/kcfinder/", "/elfinder", "/filemanager/connectors", "/uploadify",
	} {
		if strings.Contains(p, s) {
			return rareAlways
		}
	}
	if strings.HasPrefix(last, ".env") || strings.HasPrefix(last, ".ht") || strings.HasPrefix(last, ".git") || strings.HasPrefix(last, ".bash") || strings.HasPrefix(last, ".my") {
		return rareAlways
	}
	switch last {
	case ".npmrc", ".dockercfg", ".netrc", ".mysql_history", ".profile", "id_rsa", "phpinfo.php", "info.php", "shell.php", "cmd.php", "c99.php", "r57.php", "wp-config.php",
		"config.php.bak", "web.config", "wp-login.php", "setup-config.php", "install.php", "configuration.php", "database.yml", "credentials", "appsettings.json", "docker-compose.yml",
		"dump.sql", "backup.sql", "db.sql", "backup.zip", "backup.tar.gz", "www.zip", "debug.log", "error_log", "trace.axd", "elmah.axd", "swagger.json", "heapdump", "composer.lock":
		return rareOften
	}
	if i := strings.LastIndexByte(last, '.'); i > 0 || strings.HasSuffix(last, "~") {
		ext := ""
		if i > 0 {
			ext = last[i:]
		}
		switch {
		case ext == ".bak", ext == ".old", ext == ".orig", ext == ".save", ext == ".swp", ext == ".sql", ext == ".tgz", ext == ".inc", ext == ".cfg", ext == ".mdb", strings.HasSuffix(last, "~"):
			return rareSome
		}
	}
	switch last {
	case "admin", "administrator", "phpmyadmin", "wp-admin", "cgi-bin", "backup", "backups", "console", "manager", "jenkins", "actuator", "config", "debug", "shell", "webdav", "graphiql", "graphql":
		return pipeline.Nat
	}
	return 0
}

// lower writes s in ASCII lower case into dst and returns it as a string that
// shares dst's memory.
func lower(dst []byte, s string) string {
	for i := range len(s) {
		c := s[i]
		if c >= 'A' && c <= 'Z' {
			c += 'a' - 'A'
		}
		dst = append(dst, c)
	}
	return string(dst)
}
