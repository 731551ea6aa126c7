package accounts

import (
	"strings"
	"sync"

	"github.com/ccojocar/zxcvbn-go/frequency"
)

// common is the list of the most common passwords that zxcvbn uses, about 47,000 of them from real
// leaks (NIST SP 800-63B, section 3.1.1.2: compare against a blocklist, and no composition rules).
var common = sync.OnceValue(func() map[string]struct{} {
	list := frequency.Lists["Passwords"].List
	set := make(map[string]struct{}, len(list))
	for _, password := range list {
		set[strings.ToLower(password)] = struct{}{}
	}
	return set
})

func isCommon(password string) bool {
	_, found := common()[strings.ToLower(password)]
	return found
}
