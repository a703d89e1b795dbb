from fastapi import APIRouter

from app.auth import service
from app.auth.requires import Admin
from app.auth.schemas import CreatedKey, CreateKey, KeyView
from app.http import Session

router = APIRouter(prefix="/keys", tags=["keys"])


@router.post("", status_code=201)
async def create_key(body: CreateKey, session: Session, admin: Admin) -> CreatedKey:
    async with session.begin():
        key = await service.create_key(session, name=body.name, roles=body.roles, actor=str(admin))
    return CreatedKey(id=key.split("_")[1], name=body.name, roles=body.roles, key=key)


@router.get("")
async def list_keys(session: Session, _: Admin) -> list[KeyView]:
    return [KeyView.model_validate(key) for key in await service.list_keys(session)]


@router.delete("/{id}")
async def revoke_key(id: str, session: Session, admin: Admin) -> KeyView:
    async with session.begin():
        key = await service.revoke_key(session, id, actor=str(admin))
    return KeyView.model_validate(key)
