package httpapi

import (
	"cmp"
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/clientaddress"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// Keys of values in gin's context for the audit line, which the path and the token do not contain.
const (
	auditUserKey     = "audit-user"
	auditUsernameKey = "audit-username"
	auditObjectKey   = "audit-object"
	auditFactorKey   = "audit-factor"
	// refusedKey is set when a limit, or the check of the web origin, has refused the request. See
	// [apiError].
	refusedKey = "refused"
)

// actions names the audited action of each route. Other routes touch no data and no credentials.
var actions = map[string]string{
	"POST /api/auth/register":       "account.register",
	"POST /api/auth/login":          "session.login",
	"POST /api/auth/logout":         "session.logout",
	"POST /api/auth/password":       "account.password",
	"GET /api/auth/sessions":        "session.list",
	"DELETE /api/auth/sessions/:id": "session.revoke",
	"GET /api/auth/totp":            "second-factor.status",
	"POST /api/auth/totp":           "second-factor.propose",
	"POST /api/auth/totp/confirm":   "second-factor.confirm",
	"DELETE /api/auth/totp":         "second-factor.remove",
	"DELETE /api/account":           "account.delete",
	"GET /api/account/export":       "account.export",
	"POST /api/notes":               "note.create",
	"GET /api/notes":                "note.list",
	"GET /api/notes/:id":            "note.read",
	"PUT /api/notes/:id":            "note.update",
	"DELETE /api/notes/:id":         "note.delete",
}

// auditedAs returns the audited action of the request, if it has one. HEAD is treated like GET.
func auditedAs(c *gin.Context) (action string, ok bool) {
	method := c.Request.Method
	if method == http.MethodHead {
		method = http.MethodGet
	}
	action, ok = actions[method+" "+c.FullPath()]
	return action, ok
}

// event returns an audit line of the request with what is known so far.
func (a *heldAnswer) event(outcome string) audit.Event {
	c := a.c
	e := audit.Event{
		Action: a.action, Outcome: outcome, User: c.GetString(auditUserKey), Object: c.GetString(auditObjectKey), Factor: c.GetString(auditFactorKey),
		Address: c.ClientIP(), RequestID: c.GetString(requestIDKey),
	}
	if value, ok := c.Get(identityKey); ok {
		e.User = value.(sessions.Identity).Owner
	}
	e.User, e.Object = cmp.Or(e.User, a.user), cmp.Or(e.Object, a.object)
	if name := c.GetString(auditUsernameKey); e.User == "" && name != "" {
		e.Username = a.h.Accounts.UsernameDigest(name)
	}
	if id := c.Param("id"); e.Object == "" && isCanonicalUUID(id) {
		e.Object = id
	}
	if outcome != audit.Intent {
		e.Status = a.Status()
	}
	if a.streams {
		e.Notes, e.Bytes = a.notes, a.Size()
	}
	return e
}

// record writes the last audit line of a request. Refused requests are only counted.
func (h *handlers) record(c *gin.Context, e audit.Event) error {
	if c.GetBool(refusedKey) {
		return h.Audit.Refused(e, clientaddress.Network(e.Address))
	}
	return h.Audit.Write(e)
}

func (a *heldAnswer) outcome() string {
	switch status := a.Status(); {
	case a.streams && !a.complete:
		return audit.Incomplete
	case status < http.StatusBadRequest:
		return audit.Success
	case status < http.StatusInternalServerError:
		return audit.Denied
	}
	return audit.Error
}
