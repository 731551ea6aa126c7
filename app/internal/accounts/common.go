package accounts

import (
	_ "embed"
	"strings"
	"sync"
)

// commonList contains the most common passwords in real leaks that have at least 8 characters,
// which is the minimum of auth.minPasswordLength: in lower case, one a line, the most common one
// first. It comes from the npm package @zxcvbn-ts/language-common 4.1.3 (src/passwords.json). The
// license is in common-passwords.LICENSE.txt.
//
//go:embed common-passwords.txt
var commonList string

// common returns the passwords that nobody may choose (NIST SP 800-63B, section 3.1.1.2: compare
// with a blocklist, and have no composition rules).
var common = sync.OnceValue(func() map[string]struct{} {
	set := make(map[string]struct{}, strings.Count(commonList, "\n"))
	for password := range strings.Lines(commonList) {
		set[strings.TrimSuffix(password, "\n")] = struct{}{}
	}
	return set
})

func isCommon(password string) bool {
	_, found := common()[strings.ToLower(password)]
	return found
}
