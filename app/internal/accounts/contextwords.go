package accounts

import (
	"strings"
	"unicode/utf8"
)

// product is a word that attackers of this service try.
const product = "securenotes"

// minContextWord is the length from which a username is refused in a password, in characters.
// Shorter names occur in many good passwords.
const minContextWord = 4

// checkContextWords returns an *InvalidError if the password contains the username, in the form of
// canonicalUsername, or the name of the product, in upper or lower case (NIST SP 800-63B, section
// 3.1.1.2: context-specific words).
func checkContextWords(password, username string) error {
	password = strings.ToLower(password)
	switch {
	case utf8.RuneCountInString(username) >= minContextWord && strings.Contains(password, strings.ToLower(username)):
		return &InvalidError{"Password must not contain the username: attackers try it first"}
	case strings.Contains(password, product):
		return &InvalidError{"Password must not contain " + product + ", the name of the service: attackers try it first"}
	}
	return nil
}
