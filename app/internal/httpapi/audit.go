package httpapi

import (
	"net/http"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/audit"
	"github.com/securenotes/securenotes/app/internal/sessions"
)

// What handlers leave for the audit line, where the path and the token do not say it.
const (
	auditUserKey     = "audit-user"
	auditUsernameKey = "audit-username"
	auditObjectKey   = "audit-object"
	auditFactorKey   = "audit-factor"
)

// actions names what each route does. A route that is not here touches no data and no credentials.
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

// auditedAs is the action that the request is, if any.
func auditedAs(c *gin.Context) (action string, ok bool) {
	action, ok = actions[c.Request.Method+" "+c.FullPath()]
	return action, ok
}

// audited writes one audit line for each authentication attempt and each access to data.
func (h *handlers) audited(c *gin.Context) {
	c.Next()
	action, ok := auditedAs(c)
	if !ok {
		return
	}
	e := audit.Event{
		Action: action, Outcome: auditOutcome(c.Writer.Status()), Status: c.Writer.Status(),
		User: c.GetString(auditUserKey), Object: c.GetString(auditObjectKey), Factor: c.GetString(auditFactorKey),
		Address: c.ClientIP(), RequestID: c.GetString(requestIDKey),
	}
	if value, ok := c.Get(identityKey); ok {
		e.User = value.(sessions.Identity).Owner
	}
	if name := c.GetString(auditUsernameKey); e.User == "" && name != "" {
		e.Username = h.Accounts.UsernameDigest(name)
	}
	if id := c.Param("id"); e.Object == "" && canonicalUUID(id) {
		e.Object = id
	}
	if err := h.Audit.Write(e); err != nil {
		h.Log.Error("an audit line was not written", "error", err.Error(), "action", action, "request_id", e.RequestID)
	}
}

func auditOutcome(status int) string {
	switch {
	case status < http.StatusBadRequest:
		return "success"
	case status < http.StatusInternalServerError:
		return "denied"
	}
	return "error"
}
