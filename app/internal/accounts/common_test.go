package accounts

import (
	"strings"
	"testing"
	"unicode/utf8"
)

// TestCommonPasswords: the list has several times the 3,000 passwords that OWASP ASVS requires.
// Each is long enough to be chosen and in the form that is looked up. Well-known passwords are on
// it.
func TestCommonPasswords(t *testing.T) {
	list := common()
	if len(list) < 10_000 {
		t.Errorf("only %d passwords", len(list))
	}
	for password := range list {
		if utf8.RuneCountInString(password) < 8 || strings.TrimSpace(strings.ToLower(password)) != password {
			t.Errorf("%q cannot be chosen, or is never found", password)
		}
	}
	for _, password := range []string{"password", "password1", "Password123", "iloveyou1", "qwerty123", "12345678", "1Q2W3E4R"} {
		if !isCommon(password) {
			t.Errorf("%s is not refused", password)
		}
	}
	if isCommon("correct horse battery") {
		t.Error("a password that is not on the list is refused")
	}
}
