package accounts

import (
	_ "embed"
	"strings"
	"sync"
)

// commonList are the most common passwords of real leaks that have 8 characters or more, the least that
// auth.minPasswordLength can be: lower case, one a line, the most common one first. They are those of the
// npm package @zxcvbn-ts/language-common 4.1.3 (src/passwords.json), whose license stands beside them.
//
//go:embed common-passwords.txt
var commonList string

// common are the passwords that nobody may choose (NIST SP 800-63B, section 3.1.1.2: compare against a
// blocklist, and no composition rules).
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
