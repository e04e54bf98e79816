package console

import (
	"context"
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"fmt"
	"strings"
	"unicode/utf8"

	"golang.org/x/crypto/argon2"
)

// How passwords are kept: Argon2id with the least that OWASP's password storage
// cheat sheet gives for it (19 MiB, two passes, one lane), and a salt of 16 bytes
// as RFC 9106 recommends.
const (
	argonMemory = 19 * 1024 // KiB
	argonPasses = 2
	argonLanes  = 1
	argonSalt   = 16
	argonKey    = 32
	// maxHashing bounds the memory that signing in takes: so many at a time.
	maxHashing = 2
)

// What a password may be. Without a second factor NIST SP 800-63B-4 wants 15
// characters and no rules about their kinds.
const (
	minPassword, maxPassword = 15, 1024
)

// CheckPassword says in a phrase why a password is none for a user, "" when it
// is.
func CheckPassword(user, password string) string {
	switch {
	case !utf8.ValidString(password):
		return "the password is no text"
	case utf8.RuneCountInString(password) < minPassword:
		return fmt.Sprintf("the password needs %d characters; some words do", minPassword)
	case len(password) > maxPassword:
		return fmt.Sprintf("the password is longer than %d bytes", maxPassword)
	case strings.EqualFold(password, user):
		return "the password is the name"
	case strings.Count(password, password[:1]) == len(password):
		return "the password is one character repeated"
	}
	return ""
}

// HashPassword is what is stored of a password, in PHC's form.
func HashPassword(password string) string {
	salt := make([]byte, argonSalt)
	_, _ = rand.Read(salt) // never fails
	key := argon2.IDKey([]byte(password), salt, argonPasses, argonMemory, argonLanes, argonKey)
	text := base64.RawStdEncoding.EncodeToString
	return fmt.Sprintf("$argon2id$v=%d$m=%d,t=%d,p=%d$%s$%s", argon2.Version, argonMemory, argonPasses, argonLanes, text(salt), text(key))
}

// checkHash tells whether password is the one of hash; stale says that it is to
// be hashed anew. A hash that is none takes as long as one and admits nobody.
func checkHash(hash, password string) (ok, stale bool) {
	var version int
	var memory, passes uint32
	var lanes uint8
	parts := strings.Split(hash, "$")
	valid := len(parts) == 6 && parts[1] == "argon2id"
	if valid {
		_, err := fmt.Sscanf(parts[2]+" "+parts[3], "v=%d m=%d,t=%d,p=%d", &version, &memory, &passes, &lanes)
		valid = err == nil && version == argon2.Version && memory >= 8 && memory <= 1<<20 && passes >= 1 && passes <= 16 && lanes >= 1
	}
	var salt, want []byte
	if valid {
		var errs [2]error
		salt, errs[0] = base64.RawStdEncoding.DecodeString(parts[4])
		want, errs[1] = base64.RawStdEncoding.DecodeString(parts[5])
		valid = errs[0] == nil && errs[1] == nil && len(want) >= 16
	}
	if !valid {
		salt, want, memory, passes, lanes = make([]byte, argonSalt), make([]byte, argonKey), argonMemory, argonPasses, argonLanes
	}
	got := argon2.IDKey([]byte(password), salt, passes, memory, lanes, uint32(len(want)))
	ok = subtle.ConstantTimeCompare(got, want) == 1 && valid
	return ok, memory != argonMemory || passes != argonPasses || lanes != argonLanes || len(want) != argonKey
}

// checkPassword is checkHash when it has its turn.
func (c *console) checkPassword(ctx context.Context, hash, password string) (ok, stale bool, err error) {
	if len(password) > maxPassword {
		password = "" // the same time for all
	}
	select {
	case c.hashing <- struct{}{}:
	case <-ctx.Done():
		return false, false, ctx.Err()
	}
	defer func() { <-c.hashing }()
	ok, stale = checkHash(hash, password)
	return ok && password != "", stale, nil
}
