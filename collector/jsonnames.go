package collector

import (
	"slices"
	"strings"
)

// jsonNode is a member's name on a path: what it means, and the members inside.
type jsonNode struct {
	slot  slot
	rank  uint8 // of the names of one slot the lowest wins
	kids  map[string]*jsonNode
	pairs bool      // an array of names and values, which kids knows
	upper *jsonNode // what the name means with a capital first, where that differs
}

// add puts path into the tree in every way its dots can be read: "a.b.c" is
// found as {"a":{"b":{"c":..}}}, {"a.b.c":..}, {"a":{"b.c":..}} and so on.
func (n *jsonNode) add(path string, s slot, rank uint8) {
	n.addSplit(strings.ToLower(path), s, rank)
}

func (n *jsonNode) addSplit(path string, s slot, rank uint8) {
	leaf := n.kid(path)
	if leaf.slot == slotNone || rank <= leaf.rank {
		leaf.slot, leaf.rank = s, rank
	}
	for i := 1; i+1 < len(path); i++ {
		if path[i] == '.' {
			n.kid(path[:i]).addSplit(path[i+1:], s, rank)
		}
	}
}

func (n *jsonNode) kid(name string) *jsonNode {
	if n.kids == nil {
		n.kids = make(map[string]*jsonNode)
	}
	if n.kids[name] == nil {
		n.kids[name] = &jsonNode{}
	}
	return n.kids[name]
}

// jsonRoot builds the tree of the common names.
func jsonRoot() *jsonNode {
	root := &jsonNode{}
	for _, e := range jsonNames() {
		for i, name := range strings.Fields(e.names) {
			root.add(name, e.slot, uint8(min(i+1, 200)))
		}
	}
	// Traefik counts in nanoseconds; everybody else writes the name small.
	root.kid("duration").upper = &jsonNode{slot: slotNanos, rank: root.kid("duration").rank}
	for _, headers := range [...]string{"request.headers", "headers", "http.request.headers", "httprequest.headers"} {
		for _, h := range [...]string{
			"user-agent", "referer", "x-forwarded-for", "forwarded", "host", "authorization", "cookie", "x-api-key", "x-request-id",
		} {
			if s := headerSlot(h); s != slotNone {
				root.add(headers+"."+h, s, 201)
				root.add(headers+"."+strings.ReplaceAll(h, "-", "_"), s, 202)
			}
		}
	}
	// Shippers that wrap the record; the wrapped names are the plain ones.
	plain := root.clone()
	for _, wrap := range [...]string{"attributes", "fields", "jsonpayload"} {
		root.kid(wrap).kids = plain.clone().kids
	}
	return root
}

func (n *jsonNode) clone() *jsonNode {
	c := *n
	c.kids = make(map[string]*jsonNode, len(n.kids))
	for name, kid := range n.kids {
		c.kids[name] = kid.clone()
	}
	if len(c.kids) == 0 {
		c.kids = nil
	}
	return &c
}

type jsonName struct {
	slot  slot
	names string // the better first
}

// jsonNames lists the names by which members are known, in lower case: nginx
// variables, plain words, ECS, OpenTelemetry, Caddy, Traefik, Envoy, Cloudflare,
// Google and Amazon gateways.
func jsonNames() []jsonName {
	return []jsonName{
		{slotTime, `time_iso8601 @timestamp msec timestamp time ts time_local datetime date start_time starttime startutc
			startlocal event_time eventtime event.start event.created requesttimeepoch requesttime timeunixnano
			edgestarttimestamp observed_timestamp logged_at`},
		{slotRemote, `remote_addr remote_ip remoteip client.ip client.address client_ip clientip client_addr client_address
			clientaddr ip source.ip source.address source_ip src_ip sourceip request.remote_ip request.remote_addr
			clienthost httprequest.remoteip downstream_remote_address downstream_direct_remote_address
			network.peer.address net.sock.peer.addr net.peer.ip http.client_ip remote_host remotehost remote_address
			ip_address ipaddress requestcontext.identity.sourceip identity.sourceip addr address client remote`},
		{slotPeer, `realip_remote_addr peer_addr peer_ip`},
		{slotResolved, `proxy_protocol_addr request.client_ip`},
		{slotForwarded, `http_x_forwarded_for xff x_forwarded_for x-forwarded-for xforwardedfor forwarded_for
			http.request.header.x_forwarded_for http.request.header.x-forwarded-for request_x-forwarded-for`},
		{slotForwardedStd, `http_forwarded forwarded http.request.header.forwarded`},
		{slotMethod, `request_method http.request.method http.method method request.method requestmethod
			httprequest.requestmethod verb http_method httpmethod clientrequestmethod :method
			requestcontext.httpmethod http_verb`},
		{slotHost, `http_host host_header http.host url.domain request.host requesthost request_host authority :authority
			clientrequesthost vhost virtual_host domain domainname server.address requestaddr host`},
		{slotServerName, `server_name servername`},
		{slotTarget, `request_uri http.target url.original request.uri request_url requesturl url.full http.url
			httprequest.requesturl clientrequesturi request.url request_path requestpath uri url x-envoy-original-path
			:path target`},
		{slotPath, `url.path path uri_path http.path request.path resourcepath clientrequestpath endpoint resource`},
		{slotQuery, `query_string url.query args query querystring request.query uri_query request.querystring`},
		{slotRequest, `request request_line http.request.line requestline message.request`},
		{slotProtocol, `server_protocol request_protocol requestprotocol http.version network.protocol.version http.flavor
			request.proto httprequest.protocol clientrequestprotocol http_version httpversion protocol proto`},
		{slotAgent, `http_user_agent user_agent.original http.user_agent user_agent useragent user-agent
			httprequest.useragent clientrequestuseragent http.request.header.user_agent http.request.header.user-agent
			request_user-agent requestcontext.identity.useragent browser agent ua`},
		{slotReferer, `http_referer http.request.referrer http.request.referer referer referrer httprequest.referer
			clientrequestreferer request_referer http.request.header.referer`},
		{slotStatus, `status http.response.status_code http.status_code status_code statuscode response_code responsecode
			response.status response.status_code downstreamstatus edgeresponsestatus httprequest.status http_status
			httpstatus http.status response_status resp_status code`},
		{slotStatusFirst, `originstatus upstream_status`},
		{slotBytes, `body_bytes_sent http.response.body.bytes http.response.body.size http.response_content_length
			response_bytes responsebytes response_size responsesize resp_size downstreamcontentsize response.size
			response.bytes response.body_bytes httprequest.responsesize responselength response_length content_length
			bytes size body_size length`},
		{slotBytesSent, `bytes_sent http.response.bytes http.response.size edgeresponsebytes bytes_out sent_bytes`},
		{slotSeconds, `request_time duration_s duration_seconds time_taken_s elapsed_s request_duration_seconds`},
		{slotMillis, `duration_ms request_time_ms response_time_ms latency_ms elapsed_ms time_ms responselatency
			time_taken responsetimems took_ms`},
		{slotMicros, `duration_us request_time_us response_time_us latency_us elapsed_us`},
		{slotNanos, `duration_ns event.duration request_time_ns response_time_ns latency_ns elapsed_ns`},
		{slotDuration, `duration latency elapsed response_time responsetime request_duration httprequest.latency took`},
		{slotUser, `user remote_user user.name user.id enduser.id username user_name user_id userid auth_user authuser
			clientusername account account_id account.id accountid customer_id uid`},
		{slotSubject, `subject jwt_claim_sub jwt_sub jwt.sub jwt.claims.sub claims.sub sub
			requestcontext.authorizer.claims.sub`},
		{slotJWT, `jwt_payload jwt.payload`},
		{slotAPIKey, `api_key api_key_id http_x_api_key x-api-key x_api_key apikey apikeyid apikey_id api_key.id key_id
			requestcontext.identity.apikeyid identity.apikeyid consumer_key client_id`},
		{slotSession, `session session_id session.id sessionid session_hash sid cookie_phpsessid cookie_jsessionid
			cookie_session cookie_sessionid cookie_sid phpsessid jsessionid`},
		{slotCookies, `http_cookie cookie cookies`},
		{slotLogin, `login_user login_name login_username attempted_user login`},
		{slotAuthorization, `http_authorization authorization http.request.header.authorization`},
		{slotJA3, `ja3 ja3_hash ja3hash tls.client.ja3 ssl_ja3 ssl_ja3_hash http_ssl_ja3_hash tls_ja3 ja3_fingerprint`},
		{slotJA4, `ja4 tls.client.ja4 ssl_ja4 tls_ja4 ja4_fingerprint ja4_hash`},
		{slotRequestID, `request_id http.request.id x-request-id x_request_id http_x_request_id requestid req_id
			request.id trace_id rayid correlation_id`},
		{slotOperation, `graphql_operation graphql.operation.name operation_name operationname graphql_operation_name
			jsonrpc_method rpc_method rpc.method grpc_method http_x_apollo_operation_name http_x_graphql_operation`},
		{slotBody, `request_body http.request.body.content http.request.body requestbody request.body req_body`},
		{slotVariables, `graphql_variables graphql.variables operation_variables operationvariables variables`},
		{slotLocation, `sent_http_location upstream_http_location http.response.header.location resp_headers.location
			redirect_location`},
		{slotGRPC, `grpc_status rpc.grpc.status_code grpc_status_number grpc_status_code sent_http_grpc_status
			upstream_trailer_grpc_status sent_trailer_grpc_status`},
		{slotAppErrors, `graphql_errors graphql.errors`},
		{slotAppError, `error_code graphql_error_code rpc.jsonrpc.error_code jsonrpc_error_code`},
		{slotBlocked, blockedNames},
		{slotAction, "action"},
	}
}

// jsonField returns the slot of one of weir's own field names, as a map uses
// them.
func jsonField(name string) (slot, bool) {
	for _, e := range jsonFields() {
		if slices.Contains(strings.Fields(e.names), name) {
			return e.slot, true
		}
	}
	return slotNone, false
}

func jsonFieldNames() string {
	var names []string
	for _, e := range jsonFields() {
		names = append(names, strings.Fields(e.names)[0])
	}
	return strings.Join(names, " ")
}

// jsonFields lists weir's field names, with the other names of a field after
// the first.
func jsonFields() []jsonName {
	return []jsonName{
		{slotTime, "time"},
		{slotRemote, "remote ip"},
		{slotForwarded, "forwarded xff"},
		{slotForwardedStd, "forwarded_std"},
		{slotResolved, "real_ip"},
		{slotMethod, "method"},
		{slotHost, "host"},
		{slotTarget, "path uri url"},
		{slotQuery, "query"},
		{slotRequest, "request"},
		{slotProtocol, "protocol"},
		{slotAgent, "agent user_agent"},
		{slotReferer, "referer"},
		{slotStatus, "status"},
		{slotBytes, "bytes"},
		{slotDuration, "duration"},
		{slotSeconds, "request_time duration_s"},
		{slotMillis, "duration_ms"},
		{slotMicros, "duration_us"},
		{slotNanos, "duration_ns"},
		{slotUser, "user"},
		{slotSubject, "subject"},
		{slotAPIKey, "api_key api_key_id"},
		{slotSession, "session"},
		{slotCookies, "cookies"},
		{slotLogin, "login_user"},
		{slotAuthorization, "authorization"},
		{slotJA3, "ja3"},
		{slotJA4, "ja4"},
		{slotRequestID, "request_id"},
		{slotOperation, "operation"},
		{slotBody, "request_body"},
		{slotVariables, "graphql_variables"},
		{slotLocation, "location"},
		{slotGRPC, "grpc_status"},
		{slotAppErrors, "graphql_errors"},
		{slotAppError, "error_code"},
		{slotBlocked, "blocked"},
	}
}

// headerSlot returns what a request header means, by its name in lower case with
// '-'. Headers that a client can set and that weir would have to believe, such
// as X-Real-IP, mean nothing.
func headerSlot(name string) slot {
	switch name {
	case "user-agent":
		return slotAgent
	case "referer", "referrer":
		return slotReferer
	case "x-forwarded-for":
		return slotForwarded
	case "forwarded":
		return slotForwardedStd
	case "host":
		return slotHost
	case "authorization":
		return slotAuthorization
	case "cookie":
		return slotCookies
	case "x-api-key", "api-key", "apikey", "x-apikey":
		return slotAPIKey
	case "x-request-id", "x-correlation-id", "x-amzn-trace-id":
		return slotRequestID
	case "x-apollo-operation-name", "x-graphql-operation", "x-graphql-operation-name":
		return slotOperation
	case "cf-ja3-hash", "x-ja3", "ja3", "x-ja3-fingerprint", "cloudfront-viewer-ja3-fingerprint":
		return slotJA3
	case "x-ja4", "ja4", "x-ja4-fingerprint", "cloudfront-viewer-ja4-fingerprint":
		return slotJA4
	}
	return slotNone
}

// answerSlot returns what a header of the answer means, by its name in lower
// case with '-'. x-log-user and x-log-login are how an application tells the log
// who is logged in and which account a login tried (docs/logs.md).
func answerSlot(name string) slot {
	switch name {
	case "location":
		return slotLocation
	case "grpc-status":
		return slotGRPC
	case "x-log-user":
		return slotUser
	case "x-log-login":
		return slotLogin
	}
	return slotNone
}

// namedSlot returns what a variable of a server's configuration means that an
// operator named like a field: user, api_key, session and their like.
func namedSlot(name string) slot {
	switch name {
	case "user", "subject", "api_key", "api_key_id", "session", "login_user", "ja3", "ja4", "request_id":
		s, _ := jsonField(name)
		return s
	case "unique_id":
		return slotRequestID
	}
	return slotNone
}
