from datetime import datetime

from sqlalchemy.orm import Mapped, mapped_column

from app.db import Base


class Chore(Base):
    """When a chore that runs every so often ran last, in whichever process."""

    __tablename__ = "chores"

    name: Mapped[str] = mapped_column(primary_key=True)
    ran_at: Mapped[datetime]
