package httpapi

import (
	"net/http"
	"time"

	"github.com/gin-gonic/gin"

	"github.com/securenotes/securenotes/app/internal/accounts"
)

// reauthentication is the body of calls that ask a signed-in user for nothing but the password and
// the second factor.
type reauthentication struct {
	Password string `json:"password"`
	Code     string `json:"code"`
}

func (h *handlers) changePassword(c *gin.Context) error {
	var body struct {
		CurrentPassword string `json:"current_password"`
		NewPassword     string `json:"new_password"`
		Code            string `json:"code"`
	}
	if err := decode(c, &body); err != nil {
		return err
	}
	current := accounts.Reauthentication{Password: body.CurrentPassword, Code: body.Code}
	if err := h.Accounts.ChangePassword(c.Request.Context(), identity(c), c.ClientIP(), current, body.NewPassword); err != nil {
		return reauthenticationError(err)
	}
	c.JSON(http.StatusOK, gin.H{"message": "Password changed"})
	return nil
}

type sessionAnswer struct {
	ID        string    `json:"id"`
	CreatedAt time.Time `json:"created_at"`
	ExpiresAt time.Time `json:"expires_at"`
	Current   bool      `json:"current"`
}

func (h *handlers) listSessions(c *gin.Context) error {
	list, err := h.Accounts.Sessions(c.Request.Context(), identity(c))
	if err != nil {
		return err
	}
	answer := make([]sessionAnswer, len(list))
	for i, s := range list {
		answer[i] = sessionAnswer{s.Identity.Session, s.CreatedAt, s.ExpiresAt, s.Identity == identity(c)}
	}
	c.JSON(http.StatusOK, gin.H{"sessions": answer})
	return nil
}

// revokeSession ends a session. To end another session than its own, the request needs the password
// and the second factor.
func (h *handlers) revokeSession(c *gin.Context) error {
	id := c.Param("id")
	if !isCanonicalUUID(id) {
		return notFound("Session not found")
	}
	own := id == identity(c).Session
	var body reauthentication
	if !own || c.Request.ContentLength != 0 {
		if err := decode(c, &body); err != nil {
			return err
		}
	}
	var err error
	if own {
		err = h.Accounts.Logout(c.Request.Context(), identity(c))
	} else {
		err = h.Accounts.Revoke(c.Request.Context(), identity(c), c.ClientIP(), accounts.Reauthentication(body), id)
	}
	if err != nil {
		return reauthenticationError(err)
	}
	c.JSON(http.StatusOK, gin.H{"message": "Session revoked"})
	return nil
}

// deleteAccount asks for the password and the second factor, because it cannot be undone.
func (h *handlers) deleteAccount(c *gin.Context) error {
	var body reauthentication
	if err := decode(c, &body); err != nil {
		return err
	}
	if err := h.Accounts.DeleteAccount(c.Request.Context(), identity(c), c.ClientIP(), accounts.Reauthentication(body)); err != nil {
		return reauthenticationError(err)
	}
	c.JSON(http.StatusOK, gin.H{"message": "Account deleted"})
	return nil
}
