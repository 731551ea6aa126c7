package accounts

import (
	"strings"
	"unicode/utf8"
)

// product is a word that whoever guesses passwords of this service tries.
const product = "securenotes"

// minContextWord is how long a username must be, in characters, to be a word that is refused: shorter ones are
// part of many a good password.
const minContextWord = 4

// checkContextWords returns an *InvalidError when the password contains a word that is known of the account: the
// username, which is in the form of canonicalUsername, or the product's name, in any case (NIST SP 800-63B,
// section 3.1.1.2: context-specific words).
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
