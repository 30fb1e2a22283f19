import os

import jwt

from kedro_flask_server import Caller, Scope, UnauthorizedError

ROLES = {"data-engineer": {Scope.READ, Scope.RUN}, "analyst": {Scope.READ}}


class CompanyLogin:
    def __init__(self):
        self.key = os.environ["COMPANY_PUBLIC_KEY"]

    def authenticate(self, request):
        authorization = request.authorization
        if authorization is None or authorization.type != "bearer":
            return None
        token = authorization.token or ""
        if token.count(".") != 2:  # an API key, or what is none
            return None
        try:
            claims = jwt.decode(
                token,
                self.key,
                algorithms=["RS256"],  # never those that the token names
                issuer="https://login.example.com",
                audience="kedro",
                options={"require": ["exp", "iss", "aud", "sub"]},
            )
        except jwt.InvalidTokenError as error:
            raise UnauthorizedError(f"The token is not valid: {error}") from error
        scopes = ROLES.get(claims.get("role"), set())
        return Caller(name=claims["sub"], scopes=frozenset(scopes))
